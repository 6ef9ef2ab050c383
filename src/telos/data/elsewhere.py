"""Prepared data that is elsewhere: fetched once, compared with its digests, and read from here.

Each file is fetched whole, in parts that are gone on from where one breaks off (`remote.py`), and is there
under its name only when its content is what was written. Ranges on demand would spare the first wait, but
an epoch reads every byte, in a shuffled order: by the end all would have come over the network in small
pieces, at each pass anew.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from telos.config import changes
from telos.data.card import read_card
from telos.data.documents import SPLITS
from telos.data.job import digest_of
from telos.data.remote import Access, fetch, listing
from telos.data.settings import DataSettings
from telos.errors import ConfigError, DataError

__all__ = ["Elsewhere", "fetched"]

_COLUMN = re.compile(r"[a-z][a-z_]*\.bin")
_BESIDE = re.compile(r"[a-z]+\.(json|md)")


class Elsewhere(NamedTuple):
    """Prepared data that the settings say the place of, and what it must have been prepared with."""

    data: DataSettings
    asked: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The name of its folder."""
        where = self.data.prepared
        return where.resolve().name if isinstance(where, Path) else str(where).rstrip("/").rpartition("/")[2]

    def check(self, folder: Path) -> None:
        """Whether what is in the folder is what is asked for, by its card.

        Raises:
            DataError: it is no prepared data, or is called otherwise than its card says. ConfigError: it was
                prepared with other settings; every one is named with both values.
        """
        where = f"data.prepared = {self.data.prepared}"
        if not (folder / "card.json").is_file():
            raise DataError(
                f"{where}: no prepared data is here: there is no card.json. Name a folder that "
                "`telos prepare` made, such as runs/prepared/KEY."
            )
        card = read_card(folder)
        if card.key != self.key:
            raise DataError(
                f"{where}: a folder of prepared data is called by its key, which is {card.key} here. Give it "
                "its name again."
            )
        if not card.settings:
            raise DataError(f"{where}: its card does not say with what settings. Prepare it again.")
        self._check_settings(card.settings, where)

    def _check_settings(self, theirs: Mapping[str, Any], where: str) -> None:
        there, here = (json.loads(json.dumps(table)) for table in (theirs, self.asked))
        lines = [
            f"  {key}: {_shown(a)} there, {_shown(b)} here" for key, (a, b) in changes(there, here).items()
        ]
        if lines:
            raise ConfigError(
                f"{where}: it was prepared with other settings than these:\n"
                + "\n".join(lines)
                + "\nTake the settings, and the objective, that it was prepared with; or leave data.prepared "
                "out, to prepare the text with these."
            )


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def fetched(url: str, root: Path, access: Access, check: Callable[[Path], None]) -> Path:
    """The prepared data at a URL (`https://`, `s3://`, `gs://`), whole, in a folder under `root` that has not
    its final name. What is there of an attempt that broke off is not fetched again. One process at a time.

    `check` is asked about the folder once the card is in it, before the tokens are fetched.

    Raises:
        DataError: it cannot be had, is not whole, or is not what its headers say; or of `check`.
    """
    proof = _text_at(f"{url}/whole.json", access)
    place = root / f".fetching-{_digest(proof)}"
    place.mkdir(parents=True, exist_ok=True)
    _bring_all(url, place, _said(proof, f"{url}/whole.json", _BESIDE), access)
    check(place)
    for split in SPLITS:
        there, here = f"{url}/{split}", place / split
        here.mkdir(exist_ok=True)
        header = _text_at(f"{there}/header.json", access)
        _bring_all(there, here, _said(header, f"{there}/header.json", _COLUMN), access)
        (here / "header.json").write_bytes(header)
    (place / "whole.json").write_bytes(proof)
    return place


def _text_at(url: str, access: Access) -> bytes:
    [found] = listing(url, access)
    return fetch(found, access).read_bytes()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _said(text: bytes, url: str, names: re.Pattern[str]) -> dict[str, str]:
    """The digest of each file that it speaks of. Only plain names: it is from elsewhere."""
    digests = {}
    try:
        for name, about in json.loads(text)["files"].items():
            if not names.fullmatch(name):
                raise ValueError(f"it names a file {name!r}")
            digests[name] = bytes.fromhex(about if isinstance(about, str) else about["blake2b"]).hex()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{url}: not of prepared data: {error}. Copy its folder there again.") from None
    return digests


def _bring_all(url: str, folder: Path, digests: Mapping[str, str], access: Access) -> None:
    for name, digest in digests.items():
        if digest == _digest(b""):
            (folder / name).touch()
        elif not (folder / name).is_file():
            _bring(f"{url}/{name}", folder / name, digest, access)


def _bring(url: str, to: Path, digest: str, access: Access) -> None:
    """One file, if its content is what was said."""
    [found] = listing(url, access)
    here = fetch(found, access)
    if digest_of(here) != digest:
        here.unlink()
        raise DataError(f"{url}: its content is not what is said beside it. Copy it there again.")
    part = to.with_suffix(".part")
    shutil.move(here, part)  # out of the cache of sources, which may make room; perhaps to another disk
    part.replace(to)
