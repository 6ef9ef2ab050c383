"""What a run says while it trains: `metrics.jsonl`, TensorBoard events, and a live line for whoever watches.

A log that cannot be written is a pity, never a reason to stop or to spoil a run: the first failure of each is
told once, and training goes on.
"""

import contextlib
import importlib
import json
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from pydantic import field_validator

from telos.config import Settings
from telos.errors import ConfigError

__all__ = ["Log", "LogSettings", "MlflowSettings", "WandbSettings"]


class WandbSettings(Settings):
    """Weights & Biases. The key is read from the environment
    by its own library and never passes through here.
    """

    project: str
    """Project that the run appears in."""
    entity: str = ""
    """User or team; empty for the default."""
    mode: str = "online"
    """`online` or `offline`."""


class MlflowSettings(Settings):
    """MLflow. Credentials are read from the environment by its own library and never pass through here."""

    experiment: str
    """Experiment that the run appears in."""
    server: str = ""
    """Tracking server or folder; empty for the default."""

    @field_validator("server")
    @classmethod
    def _holds_no_secret(cls, server: str) -> str:
        if "@" in urlsplit(server).netloc:
            raise ValueError(
                "must not hold a user or password: settings are written into the run; set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead."
            )
        return server


class LogSettings(Settings):
    """Where figures go beside `metrics.jsonl`."""

    tensorboard: bool = True
    """Write TensorBoard events."""
    wandb: WandbSettings | None = None
    """Send figures to Weights & Biases as well."""
    mlflow: MlflowSettings | None = None
    """Send figures to MLflow as well."""


class Sink(ABC):
    """One place that figures are sent to."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Figures of one step by name; numbers and text, `None` for what is not finite."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more comes."""


class Log:
    """All the sinks of a run.

    Args:
        folder: The run's folder.
        settings: Which sinks.
        name: What the run is called elsewhere.
        config: The recipe as plain data, for sinks that show it.
    """

    def __init__(
        self,
        folder: Path,
        settings: LogSettings,
        *,
        name: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._told: set[str] = set()
        self._sinks: dict[str, Sink] = {}
        self._folder, self._settings, self._name, self._config = folder, settings, name, config or {}

    def start(self, step: int) -> None:
        """Open every sink to go on from `step`: what an earlier attempt logged after it is cut off."""
        folder, settings, name, config = self._folder, self._settings, self._name, self._config
        makers: dict[str, Callable[[], Sink]] = {
            "metrics.jsonl": lambda: _Lines(folder / "metrics.jsonl", step)
        }
        if settings.tensorboard:
            makers["TensorBoard"] = lambda: _Events(folder / "tensorboard", step)
        if settings.wandb is not None:
            wandb = settings.wandb
            makers["Weights & Biases"] = lambda: _Wandb(folder, wandb, name, config)
        if settings.mlflow is not None:
            mlflow = settings.mlflow
            makers["MLflow"] = lambda: _Mlflow(mlflow, name, config)
        for kind, make in makers.items():
            with self._surviving(kind):
                self._sinks[kind] = make()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """The figures of one step, to every sink."""
        clean = {key: _finite(value) for key, value in values.items()}
        for kind, sink in self._sinks.items():
            with self._surviving(kind):
                sink.write(step, clean)

    def close(self) -> None:
        """Flush and close every sink."""
        for kind, sink in self._sinks.items():
            with self._surviving(kind):
                sink.close()

    @contextlib.contextmanager
    def _surviving(self, kind: str) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            if kind not in self._told:
                self._told.add(kind)
                text = f"{kind}: cannot be written ({error}); training goes on without it."
                warnings.warn(text, RuntimeWarning, stacklevel=4)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@final
class _Lines(Sink):
    """`metrics.jsonl`: one JSON object per line, each step once, whatever happened in between."""

    def __init__(self, path: Path, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _read_lines(path) if _step_of(line) <= step and step > 0]
        temporary = path.with_name(".metrics.jsonl.tmp")
        temporary.write_text("".join(f"{line}\n" for line in kept))
        temporary.replace(path)
        self._path = path

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")

    def close(self) -> None:
        pass


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _step_of(line: str) -> float:
    """The step of a line; a torn line is of none, and so later than all."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


@final
class _Events(Sink):
    """TensorBoard's own file format, written without its background thread: what fails, fails here."""

    def __init__(self, folder: Path, step: int) -> None:
        events = importlib.import_module("tensorboard.compat.proto.event_pb2")
        records = importlib.import_module("tensorboard.summary.writer.record_writer")
        self._event, self._log, self._start = events.Event, events.SessionLog, events.SessionLog.START
        self._summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}.telos").open("ab")
        self._records = records.RecordWriter(self._file)
        self._put(file_version="brain.Event:2")
        if step:  # TensorBoard drops what earlier attempts logged from here on
            self._put(step=step + 1, session_log=self._log(status=self._start))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        entries = [self._summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        self._put(step=step, summary=self._summary(value=entries))

    def close(self) -> None:
        self._file.close()

    def _put(self, **content: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())
        self._file.flush()


@final
class _Wandb(Sink):
    def __init__(self, folder: Path, settings: WandbSettings, name: str, config: Mapping[str, Any]) -> None:
        wandb = _optional("wandb")
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity or None,
            mode=settings.mode,
            name=name or None,
            dir=str(folder),
            config=dict(config),
            settings=wandb.Settings(disable_code=True, disable_git=True, x_disable_meta=True),
        )

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({key: value for key, value in values.items() if value is not None}, step=step)

    def close(self) -> None:
        self._run.finish()


@final
class _Mlflow(Sink):
    def __init__(self, settings: MlflowSettings, name: str, config: Mapping[str, Any]) -> None:
        self._mlflow = _optional("mlflow")
        if settings.server:
            self._mlflow.set_tracking_uri(settings.server)
        self._mlflow.set_experiment(settings.experiment)
        self._mlflow.start_run(run_name=name or None)
        self._mlflow.log_dict(dict(config), "recipe.json")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
        self._mlflow.log_metrics(numbers, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def _optional(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(
            f"train.log.{package}: the package {package} is not installed. Install it with "
            "`pip install 'telos-lm[track]'`, or leave this setting out."
        ) from None
