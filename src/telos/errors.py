"""Everything that Telos raises for its users.

    TelosError
    ├── ConfigError       a recipe or an override says something that cannot be
    ├── DataError         the text, or what was prepared from it, cannot be used
    ├── CheckpointError   a checkpoint is missing, broken or belongs to another run
    └── TrainingError     training itself cannot go on (non-finite losses, a dead worker)

A message says what happened, what was expected and how to mend it, and names the file, line or dotted key.
Our own mistakes are `assert`s, never one of these.
"""

__all__ = ["CheckpointError", "ConfigError", "DataError", "TelosError", "TrainingError"]


class TelosError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(TelosError):
    """A setting is unknown, of the wrong type, or does not go with another."""


class DataError(TelosError):
    """Text or prepared data cannot be read or is not enough."""


class CheckpointError(TelosError):
    """A checkpoint cannot be written, read, or does not belong here."""


class TrainingError(TelosError):
    """Training cannot go on."""
