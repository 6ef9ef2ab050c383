"""How good translations are, against references: BLEU and chrF with their signatures, how sure they are, and
where they go wrong. sacrebleu does the counting (Post, 2018).

    BLEU    matches of 1 to 4 words with the reference, and a penalty for short texts (Papineni et al., 2002)
    chrF    F2 of matches of 1 to 6 characters (Popović, 2015)

Both are of the whole set, 0 … 100. The 95 % intervals are of resampled sets of the same size, paired where
two systems are compared (Koehn, 2004). What counts as a word is by the language of the references:
sacrebleu's `zh` for Chinese, which takes each character by itself, `char` for Japanese, `13a` for all others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.errors import ConfigError, DataError
from telos.evaluate._intervals import Interval, share

__all__ = ["Quality", "Versus", "against", "quality", "tokeniser"]

RESAMPLED = 1000
WORST = 20
_SEED = 12345


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Figures of one system on one set."""

    figures: dict[str, dict[str, Any]]
    """By metric, `bleu` and `chrf`: `score`, `low` and `high` of its interval, `signature`."""
    sentences: int
    exact: Interval
    """The share of translations that are their reference; accuracy, where targets are names of classes."""
    length_ratio: float
    """Words of the translations per word of the references."""
    by_length: list[dict[str, Any]]
    """chrF of short, middling and long sources."""
    worst: list[dict[str, Any]]
    """The sentences with the lowest chrF."""
    faults: dict[str, int]
    """Of the translations, how many are `empty`, are a `copy` of their source, or `repeat` themselves."""

    def table(self) -> dict[str, Any]:
        """All of it as plain data."""
        plain = {"sentences": self.sentences, "length_ratio": self.length_ratio, "faults": self.faults}
        return {
            **self.figures,
            "exact": self.exact.table(),
            **plain,
            "by_length": self.by_length,
            "worst": self.worst,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """Whether one system is better than another on the same sentences."""

    metric: str
    difference: float
    low: float
    high: float
    p: float
    """Of the resampled sets, the share whose difference is as far from the mean of all as the real one is
    from 0 (Riezler and Maxwell, 2005): below 0.05 it is worth a claim."""

    def table(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in ("metric", "difference", "low", "high", "p")}


def tokeniser(references: Sequence[str]) -> str:
    """The name of sacrebleu's tokeniser for the language of these texts, as their characters show it."""
    text = "".join(references[:1000])
    letters = sum(character.isalpha() for character in text) or 1
    kana = sum("\u3040" <= character <= "\u30ff" for character in text)
    han = sum("\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf" for character in text)
    if kana / letters > 0.05:
        return "char"
    return "zh" if han / letters > 0.3 else "13a"


def quality(
    sources: Sequence[str], translations: Sequence[str], references: Sequence[str], *, lower: bool = False
) -> Quality:
    """The figures of one system.

    Args:
        lower: capitals do not count.

    Raises:
        DataError: there is nothing to score, or there are not as many of each.
        ConfigError: sacrebleu is not installed.
    """
    _check(sources, translations, references)
    figures = {
        name: _scored(metric, translations, references)
        for name, metric in _metrics(references, lower).items()
    }
    scores = _sentence_scores(translations, references)
    bleu = _metrics(references, lower)["bleu"].corpus_score(list(translations), [list(references)])
    return Quality(
        figures=figures,
        sentences=len(references),
        exact=share(sum(a == b for a, b in zip(translations, references, strict=True)), len(references)),
        length_ratio=bleu.sys_len / max(bleu.ref_len, 1),
        by_length=_by_length(sources, translations, references),
        worst=_worst(sources, translations, references, scores),
        faults=_faults(sources, translations),
    )


def against(
    translations: Sequence[str], others: Sequence[str], references: Sequence[str], *, lower: bool = False
) -> list[Versus]:
    """How much better the first system is than the other, by BLEU and chrF, by paired resampling.

    Raises:
        DataError, ConfigError: as of `quality`.
    """
    _check(references, translations, references)
    _check(references, others, references)
    return [
        _versus(name, metric, translations, others, references)
        for name, metric in _metrics(references, lower).items()
    ]


def _versus(
    name: str,
    metric: Any,
    translations: Sequence[str],
    others: Sequence[str],
    references: Sequence[str],
) -> Versus:
    both = [_Counts.of(metric, texts, references) for texts in (translations, others)]
    draws = _draws(len(references))
    gap = both[0].score() - both[1].score()
    gaps = both[0].scores(draws) - both[1].scores(draws)
    beyond = np.abs(gaps - gaps.mean()) >= abs(gap)
    low, high = np.quantile(gaps, [0.025, 0.975])
    p = float((beyond.sum() + 1) / (len(draws) + 1))
    return Versus(metric=name, difference=gap, low=float(low), high=float(high), p=p)


def _draws(sentences: int) -> NDArray[np.int64]:
    """Resampled sets (sets, sentences), always the same: the places of their sentences."""
    return np.random.default_rng(_SEED).integers(sentences, size=(RESAMPLED, sentences))


class _Counts(NamedTuple):
    """What sacrebleu counts in each sentence (sentences, counts): a set's score follows from the sums."""

    metric: Any
    each: NDArray[np.float64]

    @classmethod
    def of(cls, metric: Any, translations: Sequence[str], references: Sequence[str]) -> "_Counts":
        found = metric._extract_corpus_statistics(list(translations), [list(references)])
        return cls(metric, np.array(found, np.float64))

    def score(self) -> float:
        """Of the whole set."""
        return self._of(self.each.sum(0))

    def scores(self, draws: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of resampled sets."""
        return np.array([self._of(self.each[draw].sum(0)) for draw in draws])

    def _of(self, sums: NDArray[np.float64]) -> float:
        return float(self.metric._compute_score_from_stats(sums.astype(np.int64).tolist()).score)


def _metrics(references: Sequence[str], lower: bool) -> dict[str, Any]:
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise ConfigError(
            "BLEU and chrF are counted by sacrebleu, which is not installed: "
            "pip install 'telos-lm[translate]'"
        ) from None
    return {"bleu": BLEU(tokenize=tokeniser(references), lowercase=lower), "chrf": CHRF(lowercase=lower)}


def _scored(metric: Any, translations: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    counts = _Counts.of(metric, translations, references)
    low = high = None
    if len(references) > 1:
        low, high = map(float, np.quantile(counts.scores(_draws(len(references))), [0.025, 0.975]))
    return {"score": counts.score(), "low": low, "high": high, "signature": _signature(metric)}


def _signature(metric: Any) -> str:
    """Of one reference for each sentence; intervals, which are ours, are no part of it."""
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def _sentence_scores(translations: Sequence[str], references: Sequence[str]) -> list[float]:
    """chrF of each sentence."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    both = zip(translations, references, strict=True)
    return [float(metric.sentence_score(translation, [reference]).score) for translation, reference in both]


def _by_length(
    sources: Sequence[str], translations: Sequence[str], references: Sequence[str]
) -> list[dict[str, Any]]:
    """Sources in thirds by their characters."""
    from sacrebleu.metrics.chrf import CHRF

    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    found = []
    for part in range(3):
        chosen = order[part * len(order) // 3 : (part + 1) * len(order) // 3]
        if chosen:
            score = CHRF().corpus_score(
                [translations[index] for index in chosen], [[references[index] for index in chosen]]
            )
            longest = len(sources[chosen[-1]])
            found.append({"characters": longest, "sentences": len(chosen), "chrf": float(score.score)})
    return found


def _worst(
    sources: Sequence[str],
    translations: Sequence[str],
    references: Sequence[str],
    scores: Sequence[float],
) -> list[dict[str, Any]]:
    order = sorted(range(len(scores)), key=lambda index: (scores[index], index))[:WORST]
    return [
        {
            "source": sources[index],
            "translation": translations[index],
            "reference": references[index],
            "chrf": scores[index],
        }
        for index in order
    ]


def _faults(sources: Sequence[str], translations: Sequence[str]) -> dict[str, int]:
    pairs = list(zip(sources, translations, strict=True))
    return {
        "empty": sum(not translation.strip() for _, translation in pairs),
        "copy": sum(_plain(source) == _plain(translation) for source, translation in pairs),
        "repeat": sum(_repeats(translation) for translation in translations),
    }


def _plain(text: str) -> str:
    """Without capitals and white space."""
    return "".join(text.casefold().split())


def _repeats(text: str) -> bool:
    """Whether a stretch of a fifth of the text or more stands three times in a row."""
    longest = max(2, math.ceil(len(text) / 5))
    for size in range(longest, len(text) // 3 + 1):
        for begin in range(len(text) - 3 * size + 1):
            stretch = text[begin : begin + size]
            if stretch * 3 == text[begin : begin + 3 * size]:
                return True
    return False


def _check(sources: Sequence[str], translations: Sequence[str], references: Sequence[str]) -> None:
    if not references:
        raise DataError("There is nothing to score: no references.")
    counts = {"sources": len(sources), "translations": len(translations), "references": len(references)}
    if len(set(counts.values())) > 1:
        named = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        raise DataError(f"There must be as many of each, line by line: {named}.")
    for name, texts in (("translations", translations), ("references", references)):
        ended = [text.rstrip() for text in texts if text.rstrip().endswith(tuple(".?!。？！"))]
        if ended and sum(text[-2:-1].isspace() for text in ended) > len(ended) / 2:
            raise DataError(
                f"The {name} are cut into words already: blanks stand before their full stops. BLEU cuts by "
                "itself, and other figures would not compare: give text as people write it."
            )
