"""Passages that stood before are cut out of texts to train on: paragraphs, and stretches of words.

Held-out text stays as it is and comes first, so that nothing of it is left in the text to train on; then the
first in the order of reading stays. What becomes of each text is in `cuts/NUMBER.npz`, by task, and is done
when the text is read for its tokens: the places are characters of the cleaned text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telos.data.cleaned import Cleaned, batches
from telos.data.documents import DROPPED, TRAIN
from telos.data.passages import NONE, Spans, repeated, shared, windows, without
from telos.data.settings import DedupeSettings

__all__ = ["Cuts", "cuts_at", "find_cuts"]

Cuts = Mapping[int, NDArray[np.int64]]
"""By the place of a text in its task, (stretches, 2): the characters that are cut out."""


def cuts_at(path: Path) -> Cuts:
    """The cuts of a task, from their file; none where there is none."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as table:
        texts, places = table["texts"], table["places"]
    begins = np.flatnonzero(np.diff(texts, prepend=-1))
    return dict(zip(texts[begins].tolist(), np.split(places, begins[1:]), strict=True))


def find_cuts(
    settings: DedupeSettings, tasks: Sequence[Cleaned], codes: Sequence[NDArray[np.uint8]], folder: Path
) -> dict[str, int]:
    """Write the cuts of all tasks to `folder`, and mark in `codes` as dropped what they leave empty. How many
    texts and characters they are."""
    found = _passages(settings, tasks, codes)
    wanted = _repeated(found, codes)
    folder.mkdir(exist_ok=True)
    total = {"texts": 0, "characters": 0}
    for number, (task, each, flags) in enumerate(zip(tasks, found, wanted, strict=True)):
        cuts = _joined(each, flags)
        _drop_empty(task, cuts, codes[number])
        total["texts"] += len(cuts)
        total["characters"] += sum(int((places[:, 1] - places[:, 0]).sum()) for places in cuts.values())
        if cuts:
            texts = np.repeat(list(cuts), [len(places) for places in cuts.values()])
            with (folder / f"{number:06}.npz").open("wb") as out:
                np.savez(out, allow_pickle=False, texts=texts, places=np.concatenate(list(cuts.values())))
    return total


def _passages(
    settings: DedupeSettings, tasks: Sequence[Cleaned], codes: Sequence[NDArray[np.uint8]]
) -> list[Spans]:
    """The passages of what is kept, task by task."""
    found = [NONE for _ in tasks]
    if settings.paragraphs:
        found = [Spans(*task.paragraphs()) for task in tasks]
    if settings.stretches:
        known = shared(np.concatenate([task.fingerprints() for task in tasks]))
        for number, task in enumerate(tasks):
            both = zip(found[number], _windows(task, known, settings), strict=True)
            found[number] = Spans(*(np.concatenate(columns) for columns in both))
    return [
        Spans(*(column[own[each.texts] != DROPPED] for column in each))
        for each, own in zip(found, codes, strict=True)
    ]


def _windows(task: Cleaned, known: Any, settings: DedupeSettings) -> Spans:
    parts = [NONE]
    at = 0
    for batch in batches((raw.decode() for raw in task.texts(np.arange(task.count))), len):
        each = windows(batch, known, settings.stretches)
        parts.append(each._replace(texts=each.texts + at))
        at += len(batch)
    return Spans(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _repeated(found: Sequence[Spans], codes: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.bool_]]:
    """Which passages of texts to train on stood before: in held-out text, or earlier."""
    train = [own[each.texts] == TRAIN for each, own in zip(found, codes, strict=True)]
    held_out = np.concatenate([each.hashes[~flags] for each, flags in zip(found, train, strict=True)])
    hashes = np.concatenate([each.hashes[flags] for each, flags in zip(found, train, strict=True)])
    later = repeated(np.concatenate([held_out, hashes]))[len(held_out) :]
    result = []
    for flags in train:
        own = np.zeros(len(flags), np.bool_)
        count = int(flags.sum())
        own[flags], later = later[:count], later[count:]
        result.append(own)
    return result


def _joined(found: Spans, wanted: NDArray[np.bool_]) -> dict[int, NDArray[np.int64]]:
    """The wanted passages of each text in order, those that touch as one."""
    texts, begins, ends = (column[wanted] for column in (found.texts, found.begins, found.ends))
    cuts: dict[int, NDArray[np.int64]] = {}
    order = np.lexsort((begins, texts))
    ordered = texts[order]
    for text in np.unique(texts).tolist():
        own = order[slice(*np.searchsorted(ordered, [text, text + 1]).tolist())]
        reached = np.maximum.accumulate(ends[own])
        apart = np.ones(len(own), np.bool_)
        apart[1:] = begins[own][1:] > reached[:-1]
        last = np.append(np.flatnonzero(apart)[1:], len(own)) - 1
        cuts[text] = np.stack([begins[own][apart], reached[last]], axis=1)
    return cuts


def _drop_empty(task: Cleaned, cuts: dict[int, NDArray[np.int64]], codes: NDArray[np.uint8]) -> None:
    """Texts of which nothing is left have no cuts, and are dropped."""
    chosen = sorted(cuts)
    for at, raw in zip(chosen, task.texts(chosen), strict=True):
        if not without(raw.decode(), cuts[at]).strip():
            codes[at] = DROPPED
            del cuts[at]
