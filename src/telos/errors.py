"""Everything that Telos raises for its users.

    TelosError
    ├── ConfigError       a recipe or an override says something that cannot be
    ├── DataError         the text, or what was prepared from it, cannot be used
    ├── CheckpointError   a checkpoint is missing, broken or belongs to another run
    ├── TrainingError     training itself cannot go on (non-finite losses, a dead worker)
    └── ExportError       a model that was written for others does not say the same as ours

A message says what happened, what was expected and how to mend it, and names the file, line or dotted key.
Our own mistakes are `assert`s, never one of these.
"""

import errno

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "TelosError",
    "TrainingError",
    "explained",
]


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


class ExportError(TelosError):
    """What was written for other programs does not say what our model says."""


_FULL = "the disk is full, or a quota is. Make room, or choose a folder on another disk (--runs)."
_OCCUPIED = "a file is where a folder should be. Move it away, or choose another folder (--runs)."
_CLOSED = "this user may not write or read there. Change its permissions, or choose another folder (--runs)."
_WAYS_OUT = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: "the file system is read-only. Choose a folder that can be written (--runs).",
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.ENOTDIR: _OCCUPIED,
    errno.EEXIST: _OCCUPIED,
    errno.EMFILE: "too many files are open. Allow more: ulimit -n 4096.",
}


def explained(error: OSError) -> str:
    """What the operating system refused, and how to mend it where that is known; without the path."""
    return _WAYS_OUT.get(error.errno or 0, f"{error.strerror or error}.")
