"""What a process has used: processor time and memory, its children's included."""

import os
import resource
import sys
from pathlib import Path

__all__ = ["children", "peak_bytes", "processor_seconds", "reset_peak", "resident_bytes"]


def processor_seconds() -> float:
    """Of this process with all its threads, of its children that live and of those that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) + sum(_of(pid) for pid in children())


def _of(pid: int) -> float:
    """Seconds of another process and of its children that have ended; 0 where the system does not say."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def children() -> list[int]:
    """Ids of the living children of this process, and of theirs."""
    parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found: list[int] = []
    frontier = {os.getpid()}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += frontier
    return found


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else -1


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold blanks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def peak_bytes() -> int:
    """The most memory that this process has had at once, since `reset_peak` where the system can do that."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("self", "VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes(pid: int | str = "self") -> int:
    """Memory that a process has now; 0 where the system does not say."""
    return _status(pid, "VmRSS")


def _status(pid: int | str, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def reset_peak() -> bool:
    """Count the peak from now on; false where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
