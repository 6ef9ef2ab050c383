"""The second stage: which of all texts are kept and in which split, from the tables of all tasks.

    exact copies → near copies → splits → no split empty → a sample for the vocabulary

Everything here is a function of the texts in their order, and not of who read them. In memory at once are
about 70 bytes for each text that the first stage kept. A text's split hangs on its content alone (or on that
of the first part of its document), so it stays where it is when others come.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.chat import FORMATS
from telos.data.card import MOST_LANGUAGES, UNKNOWN
from telos.data.cleaned import Cleaned
from telos.data.cutting import Cuts, cuts_at, find_cuts
from telos.data.documents import DROPPED, SPLITS, TEST, TRAIN, VALIDATION, by_share
from telos.data.findings import EXAMPLES, Drop, Findings, counted, listed, shown
from telos.data.near import clusters
from telos.data.passages import without
from telos.data.settings import DataSettings
from telos.errors import DataError
from telos.turns import unmarked

__all__ = ["Decisions", "decide"]

SHOWN = 800
"""Bytes of a text that are read to show its beginning."""


class Decisions(NamedTuple):
    """What becomes of each text that the first stage kept."""

    codes: list[NDArray[np.uint8]]
    """Task by task: the place of a text's split in `SPLITS`, or `DROPPED`."""
    bytes: Mapping[str, int]
    """Of each split, before what is taken out of texts."""
    sample: list[str]
    """Texts of the training split to learn a vocabulary from, in the order of their hashes."""
    labels: tuple[str, ...]
    """Names of the classes, in the order in which they are met among what is kept."""
    languages: tuple[str, ...] = ()
    """Those of what is kept, `UNKNOWN` among them where some has none, if it is to be mixed by them."""

    @property
    def kept(self) -> int:
        """Texts that are in one of the splits."""
        return sum(int((codes != DROPPED).sum()) for codes in self.codes)


def decide(
    settings: DataSettings,
    tasks: Sequence[Cleaned],
    findings: Findings,
    sample: int,
    scratch: Path,
    columns: Sequence[str] = (),
) -> Decisions:
    """What becomes of each text. `findings` are told what is dropped here. `sample`: bytes of the training
    split to give back as texts, and their targets with them where the `columns` that are wanted
    hold such. `scratch`: a folder to work in.

    Raises:
        DataError: too few documents to fill every split.
    """
    texts = _Texts(tasks)
    if not texts.count:
        raise _nothing(settings, findings)
    codes = texts.splits(settings)
    dropping = _Dropping(texts, codes, findings)
    answered = not {"target", "label", *FORMATS}.isdisjoint(columns)
    if "target" in columns:
        dropping.drop("without a target", texts.without_target())
    if settings.dedupe.exact:
        dropping.later_ones("exact copy", texts.first_of_equals(codes, answered))
    if settings.dedupe.near != "off":
        labels_of_near = clusters(texts.signatures(scratch), settings.dedupe.threshold)
        dropping.count_near(labels_of_near)
        if settings.dedupe.near == "drop":
            dropping.later_ones("near copy", labels_of_near)
    if settings.decontaminate.action != "off":
        dropping.contaminated(settings)
    if settings.dedupe.paragraphs or settings.dedupe.stretches:
        dropping.cut(settings, scratch / "cuts")
    _fill(settings, texts, codes, findings)
    sizes = {split: int(texts.sizes[codes == code].sum()) for code, split in enumerate(SPLITS)}
    by_task = texts.by_task(codes)
    return Decisions(
        by_task,
        sizes,
        [*_sample(texts, codes, sample, scratch / "cuts", not {"target", *FORMATS}.isdisjoint(columns))],
        tuple(_labels(tasks, by_task)) if "label" in columns else (),
        _languages(tasks, by_task) if settings.mix_by == "language" else (),
    )


class _Texts:
    """The tables of all tasks, one after the other."""

    def __init__(self, tasks: Sequence[Cleaned]) -> None:
        self.tasks = tasks
        tables = [task.table("ends", "digests", "units", "given") for task in tasks]
        self.answers = np.concatenate([task.table("answers")[0] for task in tasks])
        """A number for the target and the class of each text; 0 without."""
        self.begins = np.cumsum([0] + [len(units) for _, _, units, _ in tables])
        """Of each task, the number of its first text."""
        self.count = int(self.begins[-1])
        self.sizes = np.concatenate([np.diff(ends) for ends, *_ in tables])
        self.digests = np.concatenate([digests for _, digests, *_ in tables])
        self.given = np.concatenate([given for *_, given in tables])
        self.heads = self._heads([units for _, _, units, _ in tables])
        """Of each text, the first text of its document that the first stage kept."""

    def _heads(self, units: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        starts = np.zeros(self.count, np.bool_)
        for begin, own in zip(self.begins, units, strict=False):
            if len(own):
                starts[begin : begin + len(own)] = np.diff(own, prepend=-1) != 0
        return np.maximum.accumulate(np.where(starts, np.arange(self.count), 0))

    def splits(self, settings: DataSettings) -> NDArray[np.uint8]:
        """By what was given, else by content."""
        test = 0.0 if settings.test else settings.split.test
        validation = 0.0 if settings.validation else settings.split.validation
        drawn = self.digests[self.heads, 0].astype(np.float64) / 2.0**64
        by_content = np.where(drawn < test, TEST, np.where(drawn < test + validation, VALIDATION, TRAIN))
        return np.where(self.given == DROPPED, by_content, self.given).astype(np.uint8)

    def signatures(self, scratch: Path) -> NDArray[np.uint32]:
        """Those of all tasks, one after the other, as a memory map."""
        parts = [task.signatures() for task in self.tasks]
        bins = parts[0].shape[1]
        whole = np.memmap(scratch / "signatures.bin", np.uint32, "w+", shape=(self.count, bins))
        for begin, part in zip(self.begins, parts, strict=False):
            whole[begin : begin + len(part)] = part
        return whole

    def first_of_equals(self, codes: NDArray[np.uint8], answered: bool) -> NDArray[np.int64]:
        """Of each text, the number of the first one that is the same; where it matters what they are
        `answered` with, that is the same too, unless one of them is held out."""
        first = _first_of_equals(self.digests)
        if not answered:
            return first
        apart = (codes[first] != codes) & (codes[first] != DROPPED)
        return np.where(apart, first, _first_of_equals(np.column_stack([self.digests, self.answers])))

    def without_target(self) -> NDArray[np.int64]:
        """The texts that have no target."""
        has = np.zeros(self.count, np.bool_)
        for begin, task in zip(self.begins, self.tasks, strict=False):
            has[begin + np.fromiter(task.rest()["targets"], np.int64)] = True
        return np.flatnonzero(~has)

    def targets(self, chosen: NDArray[np.int64]) -> Iterator[str]:
        """The targets of some texts, which stand in their order; empty for those without."""
        owners = np.searchsorted(self.begins, chosen, side="right") - 1
        for owner in np.unique(owners):
            targets = self.tasks[owner].rest()["targets"]
            yield from (targets.get(at, "") for at in (chosen[owners == owner] - self.begins[owner]).tolist())

    def by_task(self, values: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Values of all texts, task by task."""
        return [values[begin:end] for begin, end in zip(self.begins, self.begins[1:], strict=False)]

    def read(self, chosen: NDArray[np.int64], longest: int) -> Iterator[tuple[bytes, str]]:
        """Some texts, which stand in their order, with their names; of each at most `longest` bytes."""
        owners = np.searchsorted(self.begins, chosen, side="right") - 1
        for owner in np.unique(owners):
            task, places = self.tasks[owner], chosen[owners == owner] - self.begins[owner]
            names = task.rest()["names"]
            for place, raw in zip(places.tolist(), task.texts(places, longest), strict=True):
                yield raw, names[place]


class _Dropping:
    """Takes texts out, with their reasons."""

    def __init__(self, texts: _Texts, codes: NDArray[np.uint8], findings: Findings) -> None:
        self.texts, self.codes, self.findings = texts, codes, findings

    def later_ones(self, what: str, first: NDArray[np.int64]) -> None:
        """Texts of which an earlier one, `first`, is kept: a copy in the same split, or of another."""
        later = np.flatnonzero((first != np.arange(self.texts.count)) & (self.codes != DROPPED))
        where = self.codes[first[later]]
        held_out = (where != self.codes[later]) & (where != TRAIN)
        self.drop(what, later[~held_out])
        for code in (TEST, VALIDATION):
            self.drop(_in(what, SPLITS[code]), later[held_out & (where == code)])

    def count_near(self, labels: NDArray[np.int64]) -> None:
        """What the card says of near copies: texts, and of those to train on, how many are like held-out
        ones."""
        left = np.flatnonzero(self.codes != DROPPED)
        later = left[labels[left] != left]
        held_out = (self.codes[later] == TRAIN) & (self.codes[labels[later]] != TRAIN)
        found = {"clusters": len(np.unique(labels[later])), "near copies": len(later)}
        self.findings.count("duplicates", {**found, "of held-out text": int(held_out.sum())})

    def contaminated(self, settings: DataSettings) -> None:
        """Texts to train on that hold text of evaluation sets.

        Raises:
            DataError: there are such, and they are refused.
        """
        shares = np.concatenate([task.table("overlaps")[0] for task in self.texts.tasks])
        chosen = np.flatnonzero((self.codes == TRAIN) & (shares > settings.decontaminate.share))
        found = {"texts": len(chosen), "bytes": int(self.texts.sizes[chosen].sum())}
        self.findings.count("contamination", found)
        if settings.decontaminate.action == "drop":
            self.drop("text of an evaluation set", chosen)
        elif settings.decontaminate.action == "refuse" and len(chosen):
            names = [name for _, name in self.texts.read(chosen[:EXAMPLES], 0)]
            more = f" and {len(chosen) - len(names):,} more" if len(chosen) > len(names) else ""
            raise DataError(
                f"{counted(len(chosen), 'text')} to train on hold text of an evaluation set: "
                f'{", ".join(names)}{more}. Take them out, or set data.decontaminate.action to "drop".'
            )

    def cut(self, settings: DataSettings, folder: Path) -> None:
        """Passages that stood before out of texts to train on; what is then empty is dropped."""
        after = self.codes.copy()
        found = find_cuts(settings.dedupe, self.texts.tasks, self.texts.by_task(after), folder)
        self.findings.count("passages", found)
        self.drop("nothing but passages that stood before", np.flatnonzero(after != self.codes))

    def drop(self, reason: str, chosen: NDArray[np.int64]) -> None:
        """These texts, in their order."""
        if not len(chosen):
            return
        self.codes[chosen] = DROPPED
        beginnings = self.texts.read(chosen[:EXAMPLES], SHOWN)
        examples = tuple(shown(raw.decode("utf-8", "ignore"), name) for raw, name in beginnings)
        drop = Drop(len(chosen), int(self.texts.sizes[chosen].sum()), examples)
        self.findings.dropped[reason] = self.findings.dropped.get(reason, Drop()) + drop


def _in(what: str, split: str) -> str:
    """The reason for dropping a copy of a text in another split."""
    return f"in {split}" if what == "exact copy" else f"{what} of {split}"


def _first_of_equals(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Of each text, the number of the first one with the same digest, all columns of it."""
    order = np.lexsort(digests.T[::-1])
    ordered = digests[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    # the sort is stable, so that the first of equals is the earliest
    first = np.empty(len(order), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return first


# ---- no split empty


def _fill(settings: DataSettings, texts: _Texts, codes: NDArray[np.uint8], findings: Findings) -> None:
    """Make sure that no split that was asked for is empty.

    Raises:
        DataError: there are too few documents for that.
    """
    for split in ("test", "validation"):
        if (codes == SPLITS.index(split)).any():
            continue
        if getattr(settings, split) is not None:
            raise _too_little(settings, f"nothing in {getattr(settings, split)} is left for {split}")
        if getattr(settings.split, split) > 0:
            _move(settings, texts, codes, split)
            findings.notes.append(
                f"By its hash no document was in {split}: the one with the lowest hash was taken for it."
            )
    if not (codes == TRAIN).any():
        raise _too_little(settings, "nothing is left to train on")


def _move(settings: DataSettings, texts: _Texts, codes: NDArray[np.uint8], split: str) -> None:
    """Give an empty split the training document with the lowest hash."""
    train = np.flatnonzero(codes == TRAIN)
    heads, first = np.unique(texts.heads[train], return_index=True)
    if len(heads) < 2:
        raise _too_little(settings, f"nothing is left for {split}")
    lowest = heads[np.argmin(texts.digests[train[first], 0])]
    codes[train[texts.heads[train] == lowest]] = SPLITS.index(split)


def _sample(texts: _Texts, codes: NDArray[np.uint8], budget: int, cuts: Path, targets: bool) -> Iterator[str]:
    """Training texts in the order of their hashes, as many as are allowed; of the first as much as is. With
    `targets`, each is followed by its target, which is not counted."""
    train = np.flatnonzero(codes == TRAIN)
    order = train[np.argsort(texts.digests[train, 1], kind="stable")]
    fits = np.cumsum(np.minimum(texts.sizes[order], budget)) <= budget
    chosen = order[: max(1, int(fits.sum()))]
    ordered = np.sort(chosen)
    found = dict(zip(ordered.tolist(), texts.read(ordered, budget), strict=True))
    answers = dict(zip(ordered.tolist(), texts.targets(ordered), strict=True)) if targets else {}
    taken = _Taken(texts, cuts)
    for at in chosen.tolist():
        yield unmarked(taken.out_of(found[at][0].decode("utf-8", "ignore"), at))
        if answers.get(at):
            yield answers[at]


class _Taken:
    """The cuts of all tasks, read as they are needed."""

    def __init__(self, texts: _Texts, folder: Path) -> None:
        self._begins, self._folder = texts.begins, folder
        self._cuts: dict[int, Cuts] = {}

    def out_of(self, text: str, at: int) -> str:
        """The text without its cuts."""
        owner = int(np.searchsorted(self._begins, at, side="right")) - 1
        if owner not in self._cuts:
            self._cuts[owner] = cuts_at(self._folder / f"{owner:06}.npz")
        cut = self._cuts[owner].get(at - int(self._begins[owner]))
        return text if cut is None else without(text, cut)


def _labels(tasks: Sequence[Cleaned], codes: Sequence[NDArray[np.uint8]]) -> Iterator[str]:
    seen: set[str] = set()
    for task, own in zip(tasks, codes, strict=True):
        labels = task.rest()["labels"]
        for at in sorted(labels):
            if own[at] != DROPPED and labels[at] not in seen:
                seen.add(labels[at])
                yield labels[at]


def _languages(tasks: Sequence[Cleaned], codes: Sequence[NDArray[np.uint8]]) -> tuple[str, ...]:
    """In the order of their names.

    Raises:
        DataError: no language is known, or so many that they can be none.
    """
    found: set[str] = set()
    for task, own in zip(tasks, codes, strict=True):
        languages = task.rest()["languages"]
        found |= {languages.get(at, UNKNOWN) for at in np.flatnonzero(own != DROPPED).tolist()}
    if found == {UNKNOWN}:
        raise DataError(
            'data.mix_by = "language": no document has one. The filter finds it: data.filters=["language"].'
        )
    if len(found) > MOST_LANGUAGES:
        raise DataError(
            f'data.mix_by = "language": the text says {len(found):,} different ones, such as '
            f"{', '.join(sorted(found)[:3])}: these are no languages. The filter finds them: "
            'data.filters=["language"].'
        )
    return tuple(sorted(found))


# ---- too little text


def _where(settings: DataSettings) -> str:
    return ", ".join(str(origin.path or origin.source) for origin in settings.origins)


def _nothing(settings: DataSettings, findings: Findings) -> DataError:
    files = counted(findings.files, "file")
    why = listed(findings.dropped.items()) or "no documents there"
    return DataError(f"{_where(settings)}: no text in {files} ({why}).")


def _too_little(settings: DataSettings, what: str) -> DataError:
    """Advises what can help with these settings, and nothing else."""
    cures = ["Add text"]
    if settings.split.unit == "document":
        cures += [
            "set data.document_start to a pattern of the lines that begin a document",
            'set data.split.unit = "part" to hold out parts of documents',
        ]
    if shares := by_share(settings):
        own = " and ".join(f"data.{split}" for split in shares)
        numbers = " and ".join(f"data.split.{split}" for split in shares)
        cures.append(f"set {own} to text of your own that is held out")
        cures.append(f"to hold nothing out, set {numbers} to 0")
    else:
        cures.append("take copies of the held-out text out of it")
    return DataError(f"{_where(settings)}: too few documents: {what}. {'; or '.join(cures)}.")
