"""What a data report says in words: how much text there is, how much the model wants, how often it can be
read. As Markdown for a terminal; `data_page` makes the page around it.

Every sentence stands in `templates/data_words.toml`, in English and in Chinese. Names out of the corpus are
data, never markup.
"""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, final

from telos.data.card import Card
from telos.data.statistics import Statistics
from telos.how_much import (
    FADING,
    FITTED_PARAMETERS,
    FITTED_TOKENS,
    LAST,
    NEARLY_NEW,
    Answer,
    next_pass,
    novels,
    worth,
)
from telos.report import Language, visible

__all__ = [
    "PAPERS",
    "Asked",
    "Documents",
    "Found",
    "Said",
    "Speaker",
    "Words",
    "counted_in",
    "field_of",
    "markdown",
    "people",
    "size",
    "whole",
]

Words = Mapping[str, str]
PAPERS = (
    "Hoffmann et al. (2022). Training compute-optimal large language models. NeurIPS. arXiv:2203.15556",
    "Besiroglu, Erdil, Barnett and You (2024). Chinchilla scaling: a replication attempt. arXiv:2404.10102",
    "Muennighoff et al. (2023). Scaling data-constrained language models. NeurIPS. arXiv:2305.16264",
    "Sardana et al. (2024). Beyond Chinchilla-optimal: accounting for inference in language model scaling "
    "laws. ICML. arXiv:2401.00448",
    "Zipf (1949). Human behavior and the principle of least effort. Addison-Wesley.",
    "Heaps (1978). Information retrieval: computational and theoretical aspects. Academic Press.",
)


class Asked(NamedTuple):
    """The model that the answer is for."""

    name: str
    parameters: int
    vocabulary_parameters: int | None = None
    """How many of them grow with the vocabulary; `None` where that is not known."""
    objective: str = "causal"
    window: int | None = None
    planned: float | None = None
    """How often the recipe reads the text, where it says so."""


class Documents(NamedTuple):
    """Documents that came in, and what became of them."""

    read: int | None
    """As the card counts them; `None` where it does not."""
    kept: int
    dropped: int

    @property
    def adds_up(self) -> bool:
        """Whether none went missing, as far as is known."""
        return self.read is None or self.read == self.kept + self.dropped


@final
@dataclass(frozen=True, kw_only=True)
class Found:
    """All that a report is made of."""

    folder: Path
    card: Card
    statistics: Statistics
    asked: Asked
    answer: Answer

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON."""
        documents = counted_in(self.card)
        return {
            "folder": str(self.folder),
            "card": asdict(self.card),
            "documents": {**documents._asdict(), "adds_up": documents.adds_up},
            "statistics": self.statistics.table(),
            "novels": self.novels,
            "model": self.asked._asdict(),
            "answer": self.answer.table(),
            "papers": list(PAPERS),
        }

    @property
    def novels(self) -> float:
        """As many novels the training text is as long as."""
        words = self.statistics.words
        return novels(words.all_spaced, words.all_characters)


def counted_in(card: Card) -> Documents:
    """What came in and what was kept, of all splits."""
    read = field_of(card, "documents", "in")
    kept = sum(int(split["documents"]) for split in card.splits.values())
    dropped = sum(int(drop["documents"]) for drop in card.dropped.values())
    return Documents(None if read is None else int(read), kept, dropped)


def field_of(card: Card, *names: str) -> Any:
    """A field that only newer cards have, under the first of these names that is there; else `None`."""
    given = asdict(card)
    return next((given[name] for name in names if given.get(name) is not None), None)


def words_in(language: Language) -> Words:
    """What the report says, in a language."""
    text = (resources.files("telos") / "templates" / "data_words.toml").read_text(encoding="utf-8")
    words: Words = tomllib.loads(text)[language]
    return words


# ---- numbers as people read them

UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "en": ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")),
    "zh": ((1e12, " 万亿"), (1e8, " 亿"), (1e4, " 万")),
}


def people(value: float, language: Language) -> str:
    """About so many, to three digits: `1.23 million`, `123 万`."""
    if not math.isfinite(value):
        return "∞"
    for unit, name in UNITS[language]:
        if value >= unit * 0.9995:
            return f"{_three(value / unit)}{name}"
    return _three(value) if value < 1000 or value >= 9999.5 else f"{value:,.0f}"


def _three(value: float) -> str:
    """To three significant digits, thousands apart."""
    if value >= 100:
        digits = max(0, len(str(int(value))) - 3)
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def size(count: float) -> str:
    """Bytes as `7.82 MB`, in powers of ten."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit * 0.9995:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def percent(share: float) -> str:
    """`37 %`, `0.73 %`; a fifth of a per cent and less with one digit."""
    value = 100 * share
    return f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %"


def whole(value: float) -> str:
    """A count, thousands apart."""
    return f"{value:,.0f}"


# ---- the answer in words


class Said(NamedTuple):
    """A question and its answer."""

    question: str
    sentences: list[str]


class Speaker:
    """The answer in a language."""

    def __init__(self, found: Found, language: Language) -> None:
        self.found, self.answer, self.asked = found, found.answer, found.asked
        self.language, self.words = language, words_in(language)

    def many(self, value: float) -> str:
        """A number within a sentence; in Chinese one without a unit is set off by a blank."""
        text = people(value, self.language)
        return text if self.language == "en" or text[-1] in "万亿" else f"{text} "

    def said(self) -> list[Said]:
        parts: Sequence[tuple[str, Callable[[], list[str]]]] = (
            ("amount", self.amount),
            ("wanted", self.wanted),
            ("repeat", self.repeat),
            ("so", self.so),
            ("suited", self.suited),
            ("trust", self.trust),
        )
        return [Said(self.words[f"ask_{name}"], say()) for name, say in parts]

    def amount(self) -> list[str]:
        split = self.found.card.splits["train"]
        return [
            self.words["say_amount"].format(
                tokens=self.many(split["tokens"]),
                size=size(split["bytes"]),
                ratio=f"{split['bytes'] / max(1, split['tokens']):.2f}",
                words=self.length(),
                novels=self.novels(),
            )
        ]

    def length(self) -> str:
        """How long the text is, in words and in Chinese characters: what there is at least a hundredth of."""
        words = self.found.statistics.words
        spaced, characters = words.all_spaced, words.all_characters
        parts = [
            self.words[name].format(n=self.many(count))
            for name, count in (("a_words", spaced), ("a_characters", characters))
            if count >= 0.01 * (spaced + characters) and count
        ]
        return self.words["and"].join(parts) or self.words["a_words"].format(n=0)

    def novels(self) -> str:
        count = self.found.novels
        if count < 0.01:
            return self.words["novels_less"]
        if count < 0.95:
            return self.words["novels_part"].format(n=f"{count:.2g}")
        if count < 1.05:
            return self.words["novels_one"]
        return self.words["novels_many"].format(n=f"{count:.2g}" if count < 10 else self.many(round(count)))

    def wanted(self) -> list[str]:
        answer, own = self.answer, self.asked.vocabulary_parameters
        named = {"model": visible(self.asked.name), "parameters": self.many(answer.parameters)}
        if own:
            named["own"] = self.many(own)
        return [
            self.words["say_model_vocabulary" if own else "say_model"].format(**named),
            self.words["say_wanted"].format(
                wanted=self.many(answer.wanted),
                rule=self.many(answer.wanted_by_rule),
                share=percent(answer.share),
            ),
        ]

    def repeat(self) -> list[str]:
        return [
            self.words["say_repeat"].format(
                near=NEARLY_NEW,
                near_worth=percent(worth(1, NEARLY_NEW) / NEARLY_NEW),
                last=LAST,
                last_next=percent(next_pass(LAST)),
                far_next=percent(next_pass(40)),
                most=f"{1 + FADING:.1f}",
            )
        ]

    def so(self) -> list[str]:
        answer, planned = self.answer, self.asked.planned
        name = {"repeat": "say_repeat_here"}.get(answer.advice, f"say_{answer.advice}")
        sentences = [
            self.words[name].format(
                epochs=answer.epochs,
                times=f"{answer.share:.2g}" if answer.share < 10 else self.many(answer.share).strip(),
                part=percent(1 / answer.short),
                short=f"{answer.short:.2g}" if answer.short < 100 else _three(answer.short),
            )
        ]
        if planned is not None:
            sentences.append(self.words["say_planned"].format(planned=f"{planned:.3g}"))
        return sentences

    def suited(self) -> list[str]:
        once, few, many = (each.parameters for each in self.answer.suited)
        name = "say_suited_broken" if self.answer.trust == "broken" else "say_suited"
        return [
            self.words[name].format(
                once=self.many(once), few=self.many(few), many=self.many(many), near=NEARLY_NEW, last=LAST
            )
        ]

    def trust(self) -> list[str]:
        vocabulary = int(self.found.card.vocabulary["size"])
        low, high = FITTED_PARAMETERS
        return [
            self.words[f"say_{self.answer.trust}"].format(
                tokens=self.many(FITTED_TOKENS),
                low=self.many(low),
                high=self.many(high),
                vocabulary=whole(vocabulary),
                nats=f"{math.log(vocabulary):.2f}",
            )
        ]

    def caveats(self) -> list[str]:
        names = ["caveat_fit", "caveat_loss", "caveat_compute"]
        names += [] if self.asked.objective == "causal" else ["caveat_objective"]
        return [
            self.words[name].format(objective=visible(self.asked.objective))
            for name in (*names, "caveat_measured")
        ]

    def passes(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows of what more passes bring; without losses where the law has none to give."""
        names = ["passes", "read", "worth", "next_pass"]
        shown = self.answer.trust != "broken"
        names += ["loss", "gain", "if_new"] if shown else []
        rows = []
        for each in self.answer.passes:
            row = [str(each.epochs), self.many(each.read), self.many(each.worth), percent(each.next_pass)]
            losses = [f"{each.loss:.3f}", f"{each.gain:.3f}", f"{each.loss_if_new:.3f}"]
            rows.append([cell.strip() for cell in row] + (losses if shown else []))
        return [self.words[name] for name in names], rows

    def documents(self) -> str:
        """That everything that came in is accounted for, or that it is not."""
        read, kept, dropped = counted_in(self.found.card)
        known = kept + dropped if read is None else read
        name = "adds_up_unknown" if read is None else "adds_up" if read == kept + dropped else "adds_up_not"
        figures = {"read": known, "kept": kept, "dropped": dropped, "sum": kept + dropped}
        return self.words[name].format(
            missing=whole(known - kept - dropped), **{key: whole(value) for key, value in figures.items()}
        )


# ---- Markdown


def markdown(found: Found, language: Language = "en") -> str:
    """The plain answer, short."""
    speaker = Speaker(found, language)
    words = speaker.words
    parts = [f"# {words['report']}: {_plain(found.card.source)}", _plain(speaker.documents())]
    parts += [f"**{said.question}** {_plain(words['gap'].join(said.sentences))}" for said in speaker.said()]
    heads, rows = speaker.passes()
    table = [heads, ["---:"] * len(heads), *rows]
    parts.append("\n".join(f"| {' | '.join(row)} |" for row in table))
    parts += [f"{words['caveats']}:", "\n".join(f"* {_plain(each)}" for each in speaker.caveats())]
    parts += [f"{words['sources_read']}:", "\n".join(f"* {paper}" for paper in PAPERS[:4])]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Text of the corpus or of file names without what Markdown or HTML would take for markup, on one
    line."""
    return "".join("·" if c in "`<>|[]" else c for c in " ".join(visible(text).split()))
