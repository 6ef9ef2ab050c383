"""Minimal pairs: does a model hold a right sentence likelier than a wrong one that differs in little (Marvin
and Linzen, 2018; BLiMP: Warstadt et al., 2020)?

    accuracy = pairs with −log q(good) < −log q(bad) / pairs                       a tie counts half

Pairs are JSON lines with `sentence_good` and `sentence_bad`. What they test is their `UID` (the paradigm) and
their `linguistics_term` (the phenomenon), as in BLiMP, or else the file's name. Sentences are scored whole,
as `texts.py` does it for the objective; the two scores of a pair are of one kind.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from telos.errors import DataError
from telos.evaluate._intervals import Interval, share
from telos.evaluate._records import records, wanted
from telos.evaluate.texts import Judge, Kind

__all__ = ["Pair", "PairScores", "judge_pairs", "read_pairs"]

_EQUAL = 1e-6
"""Scores that differ by less than this share are a tie: so little may be the rounding of the batch."""


class Pair(NamedTuple):
    """A right sentence and a wrong one."""

    good: str
    bad: str
    phenomenon: str
    paradigm: str


def read_pairs(path: Path, limit: int = 0) -> list[Pair]:
    """The pairs of a file, or of all files of a folder; the first `limit` of each paradigm, 0 for all.

    Raises:
        DataError: there are none, or one has no `sentence_good` or `sentence_bad`.
    """
    found: list[Pair] = []
    counts: dict[str, int] = defaultdict(int)
    for record in records(path):
        paradigm = str(record.values.get("UID") or record.stem)
        if limit and counts[paradigm] >= limit:
            continue
        counts[paradigm] += 1
        phenomenon = str(record.values.get("linguistics_term") or paradigm)
        good, bad = wanted(record, "sentence_good"), wanted(record, "sentence_bad")
        found.append(Pair(good, bad, phenomenon, paradigm))
    if not found:
        raise DataError(f"{path}: holds no pairs. A line is an object with sentence_good and sentence_bad.")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScores:
    """How many pairs came out right, by phenomenon and paradigm."""

    kind: Kind
    """What the sentences were scored by."""
    words: bool
    right: Mapping[tuple[str, str], float]
    """Pairs that came out right by (phenomenon, paradigm); a tie counts half."""
    pairs: Mapping[tuple[str, str], int]

    @property
    def accuracy(self) -> Interval:
        """Over all pairs."""
        return self._over(self.pairs)

    @property
    def phenomena(self) -> dict[str, Interval]:
        """By phenomenon."""
        names = dict.fromkeys(phenomenon for phenomenon, _ in self.pairs)
        return {name: self._over(key for key in self.pairs if key[0] == name) for name in names}

    @property
    def paradigms(self) -> dict[str, Interval]:
        """By paradigm."""
        return {paradigm: self._over([(name, paradigm)]) for name, paradigm in self.pairs}

    def _over(self, keys: Iterable[tuple[str, str]]) -> Interval:
        chosen = list(keys)
        return share(sum(self.right[key] for key in chosen), sum(self.pairs[key] for key in chosen))

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON."""
        label = {"kind": self.kind, **({"words": self.words} if self.kind == "pseudo" else {})}
        groups = {"phenomena": self.phenomena, "paradigms": self.paradigms}
        shown = {group: {name: i.table() for name, i in parts.items()} for group, parts in groups.items()}
        return {**label, "pairs": sum(self.pairs.values()), "accuracy": self.accuracy.table(), **shown}


def judge_pairs(judge: Judge, pairs: Sequence[Pair]) -> PairScores:
    """Which sentence of each pair the model holds likelier."""
    texts = [judge.text(sentence) for pair in pairs for sentence in (pair.good, pair.bad)]
    found = judge.score(texts)
    right: dict[tuple[str, str], float] = defaultdict(float)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for pair, good, bad in zip(pairs, found.nats[::2], found.nats[1::2], strict=True):
        key = pair.phenomenon, pair.paradigm
        right[key] += 0.5 if math.isclose(good, bad, rel_tol=_EQUAL) else float(good < bad)
        counts[key] += 1
    return PairScores(kind=found.kind, words=found.words, right=dict(right), pairs=dict(counts))
