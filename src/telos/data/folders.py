"""Folders that are there whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["UNFINISHED", "finished", "sync", "write_synced"]

UNFINISHED = ".part"
"""How the names of folders end that are being written to."""


@contextmanager
def finished(folder: Path) -> Iterator[Path]:
    """A folder to write to, which gets the name `folder` once everything in it is on the disk; after an error
    it is gone. If another process has done the same work first, its folder stays."""
    building = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    building.mkdir(parents=True)
    try:
        yield building
        for file in building.rglob("*"):
            sync(file)
        sync(building)
        try:
            building.rename(folder)
        except OSError:
            if not folder.is_dir():  # it is not that another process was first
                raise
        sync(folder.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def sync(path: Path) -> None:
    """Make sure that a file, or the names in a folder, are on the disk, where the operating system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, text: str) -> None:
    """Write a small file, and wait until it is on the disk."""
    with path.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
