"""What this machine is and what it can do: described for reports, measured for advice.

A description names the processor, never the machine or its user: it goes into reports that are passed on.
"""

import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from telos import switches
from telos.errors import ConfigError
from telos.memory import free_memory, said, whole_memory
from telos.tokenizer import TokenizerSettings, train_tokenizer
from telos.train.compiled import compiler

__all__ = ["Examination", "choose_device", "examine", "hardware"]

Clock = Callable[[], float]

_SECONDS = 0.6  # that each rate is measured for
_LITTLE = 2 * 2**30  # bytes of memory or disk that call for a warning
_CLEARLY = 1.15  # times as fast: below, mixed precision is not worth its rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What `telos doctor` says."""

    hardware: dict[str, Any]
    """As `hardware()` gives it."""
    free_memory_bytes: int
    """Bytes of main memory that are free now; 0 where the system does not say."""
    free_disk_bytes: int
    """Bytes free where runs would be written."""
    float32: float
    """Matrix multiplication on the chosen device, in floating-point operations per second."""
    bfloat16: float
    """The same in bfloat16; 0 where the device cannot."""
    gain: float
    """How many times as fast one small training step is in bfloat16 autocast; 0 where it cannot."""
    advice: tuple[str, ...]
    """What to know or do, a plain line each."""

    @property
    def bfloat16_pays(self) -> bool:
        """Whether mixed precision is clearly faster here."""
        return self.gain > _CLEARLY

    def table(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return {**asdict(self), "bfloat16_pays": self.bfloat16_pays}


def choose_device(wanted: str = "auto") -> torch.device:
    """The device to compute on: `auto` takes CUDA, else Apple's MPS, else the processor.

    Raises:
        ConfigError: a device was asked for by name that this machine, or this build of torch, does not have.
    """
    if wanted == "auto":
        return torch.device(_present()[0])
    kind = wanted.partition(":")[0]
    if kind not in _present():
        raise ConfigError(
            f"device = {wanted!r}: there is none here. There are: {', '.join(_present())}. "
            'Use "auto", or install the build of torch for that device.'
        )
    device = torch.device(wanted)
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device = {wanted!r}: this machine has {torch.cuda.device_count()} CUDA devices, from 0."
        )
    return device


def _present() -> list[str]:
    """Kinds of devices that torch can use here, the fastest first."""
    cuda = ["cuda"] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def hardware(device: torch.device | None = None) -> dict[str, Any]:
    """What a report says of the machine, without measuring anything: no names of hosts, users or folders."""
    device = device or choose_device()
    described: dict[str, Any] = {
        "device": str(device),
        "processor": _processor(),
        "cores": _cores(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described |= {"accelerator": properties.name, "accelerator_memory_bytes": properties.total_memory}
        described["cuda"] = torch.version.cuda
    if device.type == "mps":
        described["accelerator"] = "Apple GPU (Metal)"
    return described


def examine(folder: Path | None = None, device: torch.device | None = None) -> Examination:
    """Describe the machine, measure it in two precisions, and say what follows. Takes a few seconds.

    Args:
        folder: where runs would be written; the current folder by default.
    """
    device = device or choose_device()
    float32 = _rate(device, torch.float32)
    bfloat16 = _rate(device, torch.bfloat16)
    found = Examination(
        hardware=hardware(device),
        free_memory_bytes=free_memory(torch.device("cpu")),
        free_disk_bytes=shutil.disk_usage(folder or Path.cwd()).free,
        float32=float32,
        bfloat16=bfloat16,
        gain=_step_rate(device, torch.bfloat16) / _step_rate(device, torch.float32),
        advice=(),
    )
    return replace(found, advice=tuple(_advice(found)))


def _cores() -> int:
    """Cores that this process may use, which in a container can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> str:
    """The processor's model, such as `AMD EPYC 7763`."""
    if sys.platform == "linux":
        for line in _lines(Path("/proc/cpuinfo")):
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    if sys.platform == "darwin":
        return _asked("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def _memory() -> int:
    """Bytes of main memory that there would be for this process alone; 0 if unknown."""
    if sys.platform == "darwin":
        return int(_asked("sysctl", "-n", "hw.memsize") or 0)
    return whole_memory(torch.device("cpu"), swap=False)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _asked(*command: str) -> str:
    """What a command prints, or nothing."""
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _rate(device: torch.device, precision: torch.dtype) -> float:
    """Floating-point operations per second of square matrix products; 0 where the device cannot."""
    size = 4096 if device.type == "cuda" else 768
    try:
        left = torch.ones(size, size, device=device, dtype=precision)
        return 2 * size**3 / _fastest(lambda: left @ left, device)
    except RuntimeError:
        return 0.0


def _step_rate(device: torch.device, precision: torch.dtype) -> float:
    """Training steps per second of a small feed-forward layer; 0 where the device cannot."""
    width, places = (256, 1024) if device.type == "cpu" else (1024, 16384)
    layer = torch.nn.Sequential(
        torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width)
    ).to(device)
    given = torch.ones(places, width, device=device)

    def step() -> None:
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            layer(given).square().mean().backward()

    try:
        with _one_core(device) as clock:
            return 1 / _fastest(step, device, clock)
    except RuntimeError:
        return 0.0


@contextmanager
def _one_core(device: torch.device) -> Iterator[Clock]:
    """A clock to compare by. On a processor it counts the work of one thread alone: where other programs run
    too, threads that wait for each other make everything look equally slow."""
    if device.type != "cpu":
        yield time.perf_counter
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield time.thread_time
    finally:
        torch.set_num_threads(threads)


def _fastest(work: Callable[[], Any], device: torch.device, clock: Clock = time.perf_counter) -> float:
    """The shortest of many times in seconds; the first, which prepares kernels, tells how many."""
    count = max(2, min(200, int(_SECONDS / _timer(work, device, clock))))
    return min(_timer(work, device, clock) for _ in range(count))


def _timer(work: Callable[[], Any], device: torch.device, clock: Clock) -> float:
    """Seconds that `work` takes until the device has done it."""
    _wait(device)
    start = clock()
    work()
    _wait(device)
    return max(clock() - start, 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _advice(found: Examination) -> list[str]:
    device, threads, cores = (found.hardware[name] for name in ("device", "threads", "cores"))
    lines = [_size_advice(device, found.float32)]
    times = f"A training step with bfloat16 autocast is {found.gain:.1f} times as fast as in float32 here"
    if found.bfloat16_pays:
        lines.append(f"{times}: mixed precision pays.")
    elif found.gain:
        lines.append(f"{times}: stay with float32.")
    if 0 < found.free_memory_bytes < _LITTLE:
        lines.append(
            f"Only {said(found.free_memory_bytes)} of memory are free: use a small batch and vocabulary."
        )
    if found.free_disk_bytes < _LITTLE:
        lines.append(
            f"Only {said(found.free_disk_bytes)} of disk are free: a run's checkpoints may need about 1 GiB."
        )
    if device == "cpu" and threads < cores:
        lines.append(f"torch uses {threads} of {cores} cores: unset OMP_NUM_THREADS to use them all.")
    lines += _encoding_advice()
    if device == "cpu" and compiler() is None:
        lines.append("There is no C++ compiler, so that long runs are not compiled: a tenth of their time.")
    return lines


def _encoding_advice() -> list[str]:
    """Why text is encoded by `tokenizers` alone here, if it is: tried on a small vocabulary."""
    texts = [f"The {number} cats sat. 床前明月光，{number}。" for number in range(99)]
    if train_tokenizer(TokenizerSettings(size=300), iter(texts)).encoded_by(texts) != "tokenizers":
        return []
    why = "fastokens is here, but fails or gives other ids"
    if not switches.on("encoding"):
        why = "TELOS_WITHOUT turns the fast way off"
    elif importlib.util.find_spec("fastokens") is None:
        why = "pip install 'telos-lm[fast]' makes it some ten times as fast"
    return [f"Text is encoded by tokenizers: {why}."]


def _size_advice(device: str, rate: float) -> str:
    """How large a model trains in an hour, by 6 operations per weight and token and 20 tokens per weight."""
    weights = (0.3 * rate * 3600 / (6 * 20)) ** 0.5
    return (
        f"In an hour, {device} can train about {_short(weights)} weights on {_short(20 * weights)} tokens "
        "(20 tokens per weight: Hoffmann et al., 2022), if it reaches 30 % of the measured float32 rate."
    )


def _short(number: float) -> str:
    """1234567 as `1.2 million`."""
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number:.0f}"
