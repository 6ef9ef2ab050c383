"""How much memory there is: on a GPU, or of this process's main memory, within all limits that it has; what
is done so that the system has it back, and so that tensors lie in it well."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from telos import switches

__all__ = ["free_memory", "give_back", "large_pages", "said", "whole_memory"]

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Numbers of glibc's `mallopt`."""
HUGEPAGE = 14
"""Of `madvise`."""


def free_memory(device: torch.device) -> int:
    """Bytes that this process can get now; 0 where the system does not say.

    On a CPU the least of what is available (`MemAvailable`: free, or held by files that can be read again),
    what the limits of its control groups leave, and what its limit of addresses (`ulimit -v`) leaves.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu" or not (available := _field("meminfo", "MemAvailable")):
        return 0
    left = [limit - used for limit, used in _limits()]
    return max(0, min(available, *left, *_addresses()))


def whole_memory(device: torch.device, *, swap: bool = True) -> int:
    """Bytes that there would be for this process if nothing else ran, with what can be swapped out; 0 where
    the system does not say. More cannot be had."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type != "cpu" or not (total := _field("meminfo", "MemTotal")):
        return 0
    more = _field("meminfo", "SwapTotal") if swap else 0
    return min(total, *(limit for limit, _ in _limits())) + more


def give_back() -> None:
    """Let the system have what was freed: glibc keeps for this process what lies below something in use,
    which after learning a vocabulary is hundreds of megabytes. Other C libraries need no asking."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)


def large_pages() -> bool:
    """Have large tensors side by side in pages of 2 MiB, and keep what is freed for the next ones; whether.

    A step makes and frees thousands of them. By itself glibc maps large ones anew each time, in pages of
    4 KiB: the system has to clear and find each page. Here the heap grows once, by addresses and not yet by
    memory, and the system is asked for large pages in it; nothing is resident before it is used. For Linux
    with glibc and without a limit of addresses; elsewhere, and with `TELOS_WITHOUT=pages`, nothing happens.
    """
    if sys.platform != "linux" or not switches.on("pages") or list(_addresses()):
        return False
    size = free_memory(torch.device("cpu")) // 4
    try:
        glibc = ctypes.CDLL(None)
        glibc.malloc.restype = ctypes.c_void_p
        if not (glibc.mallopt(TRIM_THRESHOLD, -1) and glibc.mallopt(MMAP_MAX, 0)):
            return False
        glibc.free(ctypes.c_void_p(glibc.malloc(ctypes.c_size_t(size))))
        asked = [_in_large_pages(glibc, *heap) for heap in _heaps()]
        return all(asked)
    except (OSError, AttributeError):  # not glibc
        return False


def _in_large_pages(glibc: ctypes.CDLL, start: int, end: int) -> bool:
    return not glibc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), HUGEPAGE)


def _heaps() -> Iterator[tuple[int, int]]:
    """Where the heap that grows at its end begins and ends, in pieces that the system treats alike."""
    for line in _lines(PROC / "self/maps"):
        if line.endswith("[heap]"):
            start, _, end = line.split()[0].partition("-")
            yield int(start, 16), int(end, 16)


def said(size: float) -> str:
    """A size for people: 1536 MiB is `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit != "MiB" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _limits() -> Iterator[tuple[int, int]]:
    """The limit of every control group that this process is in, and what the group uses of it: version 2, and
    the process's own group in version 1. Files that can be read again are not counted as used."""
    yield (sys.maxsize, 0)
    for group in _groups():
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most = _lines(group / limit)
            if most and most[0].isdigit() and int(most[0]) < 1 << 60:  # version 1 says "none" by 2⁶³
                now = _lines(group / used)
                stale = [
                    int(v)
                    for n, _, v in (x.partition(" ") for x in _lines(group / "memory.stat"))
                    if n == cache
                ]
                yield int(most[0]), max(0, int(now[0]) - sum(stale)) if now else 0


def _groups() -> Iterator[Path]:
    """The folders of the control groups that this process is in, from its own to the root."""
    for line in _lines(PROC / "self/cgroup"):
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        inside = Path(path.lstrip("/"))
        root = CGROUPS / "memory" if kinds else CGROUPS
        for group in (inside, *inside.parents):
            yield root / group


def _addresses() -> Iterator[int]:
    """What is left of the process's limit of addresses, if it has one."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - _field("self/status", "VmSize")


def _field(file: str, name: str) -> int:
    """A size in a table of /proc, in bytes; 0 where there is none."""
    found = (line.split() for line in _lines(PROC / file) if line.startswith(f"{name}:"))
    return next((int(words[1]) * 1024 for words in found), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
