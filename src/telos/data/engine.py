"""Who does the tasks of preparation: this process, processes beside it, or a Ray cluster.

A call leaves its result on the disk and returns a count. So it may be made anywhere that sees the same
folders, in any order, and again after an interruption; what comes out is the same to the byte.
"""

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from typing import Any, NamedTuple

from telos.data.settings import EngineSettings
from telos.errors import ConfigError, DataError

__all__ = ["Call", "WorkerDied", "run", "workers_for"]

SMALL = 1 << 26
"""Bytes of input below which starting processes takes longer than it saves."""
AHEAD = 4
"""Calls that a Ray cluster is given beyond those that it works on, for each of its processors."""


class WorkerDied(DataError):
    """A worker was killed, or the cluster lost; what was done is not lost."""


class Call(NamedTuple):
    """A task for a worker: a function of a module and what it is given, all of which can be pickled."""

    function: Callable[..., int]
    given: tuple[Any, ...]


def run(settings: EngineSettings, workers: int, calls: Sequence[Call], done: Callable[[int], None]) -> None:
    """Make all calls. `done` is told the sum of the counts so far.

    Raises:
        DataError: of a call; or a worker died.
        ConfigError: the engine is not installed.
    """
    if settings.kind == "ray":
        made = _ray(settings, calls)
    elif workers == 1:
        made = _here(calls, done)
    else:
        made = _processes(workers, calls)
    total = 0
    for count in made:
        total += count
        done(total)


def workers_for(settings: EngineSettings, size: int, tasks: int) -> int:
    """How many processes work on `tasks` tasks of `size` bytes in all."""
    if settings.workers:
        return min(settings.workers, max(tasks, 1))
    return 1 if size < SMALL else max(1, min(_processors(), tasks))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _here(calls: Sequence[Call], done: Callable[[int], None]) -> Iterator[int]:
    total = 0
    for call in calls:
        before = total
        count = call.function(*call.given, progress=lambda number, before=before: done(before + number))
        total += count
        yield count


def _processes(workers: int, calls: Sequence[Call]) -> Iterator[int]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        for future in as_completed([pool.submit(call.function, *call.given) for call in calls]):
            yield future.result()
    except BrokenProcessPool:
        raise WorkerDied(
            "A worker died while it prepared text; often memory ran out. What is done is kept: the same "
            "command again goes on from there. Fewer workers need less memory (data.engine.workers=1)."
        ) from None
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _begin() -> None:
    """A worker leaves Ctrl-C to the process that it works for, and ends with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for each processor already
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _ray(settings: EngineSettings, calls: Sequence[Call]) -> Iterator[int]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise ConfigError(
            "data.engine.kind = \"ray\" needs a package more: pip install 'telos-lm[cluster]'"
        ) from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(
            address=settings.address or None,
            include_dashboard=False,
            log_to_driver=False,
            num_cpus=settings.workers or None if not settings.address else None,
        )
    remote = ray.remote(max_retries=3)(_call)
    waiting = [partial(remote.remote, call.function, call.given) for call in calls]
    limit = AHEAD + AHEAD * int(ray.cluster_resources().get("CPU", 1))
    pending = [begin() for begin in waiting[:limit]]
    begun = len(pending)
    try:
        while pending:
            ready, pending = ray.wait(pending)
            if begun < len(waiting):
                pending.append(waiting[begun]())
                begun += 1
            yield from ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        cause = error.as_instanceof_cause()
        raise cause if isinstance(cause, DataError) else error from None
    except ray.exceptions.RayError as error:
        raise WorkerDied(f"The Ray cluster could not do its work: {str(error).splitlines()[0]}") from None
    finally:
        if ours:
            ray.shutdown()


def _call(function: Callable[..., int], given: tuple[Any, ...]) -> int:
    return function(*given)
