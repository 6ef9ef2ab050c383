"""Shards that are elsewhere: fetched once, compared with their header's digests, and opened from a cache.

Each file is fetched whole, in parts that are gone on from where one breaks off (`remote.py`), and is there
under its name only when its content is what the header says. Ranges on demand would spare the first wait, but
an epoch reads every byte, in a shuffled order: by the end all would have come over the network in small
pieces, at each pass anew.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from telos.data.remote import Access, fetch, listing
from telos.data.shards import Shards
from telos.errors import DataError, explained

__all__ = ["fetched_shards"]

_NAME = re.compile(r"[a-z][a-z_]*\.bin")


def fetched_shards(url: str, folder: Path, access: Access) -> Shards:
    """The split at a URL (`https://`, `s3://`, `gs://`), by way of the cache `folder`.

    Fetched is what is not there yet; several processes may ask at once, and one fetches. What is kept is
    under the digest of the header, so another preparation at the same URL is another split.

    Raises:
        DataError: it cannot be had, is not whole, or is not what its header says.
    """
    url = url.rstrip("/")
    [said] = listing(f"{url}/header.json", access)
    text = fetch(said, access).read_bytes()
    files = _files(text, url)
    place = folder / hashlib.blake2b(text, digest_size=16).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{place.name}.lock"):
            if not (place / "header.json").is_file():  # written last
                place.mkdir(exist_ok=True)
                for name, about in files.items():
                    _bring(f"{url}/{name}", place / name, about, access)
                _write(place / "header.json", text)
    except OSError as error:
        raise DataError(f"{folder}: cannot keep fetched shards: {explained(error)}") from None
    return Shards(place)


def _files(text: bytes, url: str) -> Mapping[str, Mapping[str, Any]]:
    """What the header says of each file. Only plain names: it is from elsewhere."""
    try:
        files = json.loads(text)["files"]
        for name, about in files.items():
            if not _NAME.fullmatch(name) or not isinstance(about["bytes"], int):
                raise ValueError(f"it names a file {name!r}")
            bytes.fromhex(about["blake2b"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{url}/header.json: not the header of prepared data: {error}") from None
    checked: Mapping[str, Mapping[str, Any]] = files
    return checked


def _bring(url: str, to: Path, about: Mapping[str, Any], access: Access) -> None:
    """One file, unless it is there whole from an attempt that broke off."""
    if to.is_file():
        return
    if about["bytes"] == 0:
        to.touch()
        return
    [found] = listing(url, access)
    here = fetch(found, access)
    with here.open("rb") as data:
        digest = hashlib.file_digest(data, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    if digest != about["blake2b"] or here.stat().st_size != about["bytes"]:
        here.unlink()
        raise DataError(f"{url}: its content is not what header.json beside it says. Copy it there again.")
    part = to.with_suffix(".part")
    shutil.move(here, part)  # out of the cache of sources, which may make room; perhaps to another disk
    part.replace(to)


def _write(to: Path, text: bytes) -> None:
    part = to.with_suffix(".part")
    with part.open("wb") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    part.replace(to)
