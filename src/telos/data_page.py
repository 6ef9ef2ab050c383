"""A data report as one HTML page that needs nothing else.

Texts of the corpus, names of files and of sources are data, never markup: they are escaped, the page runs no
script and loads nothing (its content security policy forbids it), and control characters are shown as their
code.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from telos import __version__, data_charts
from telos.data.card import Card
from telos.data_answer import PAPERS, Found, Speaker, Words, counted_in, field_of, people, size, whole
from telos.report import Language, environment

__all__ = ["page"]

MOST_BARS = 12
SPLIT_COLUMNS = ("documents", "bytes", "characters", "tokens", "bytes_per_token")


def page(found: Found, language: Language = "en") -> str:
    """The whole report as HTML."""
    speaker = Speaker(found, language)
    text: str = environment().get_template("data.html.j2").render(**_content(found, speaker, language))
    return text


def _content(found: Found, speaker: Speaker, language: Language) -> dict[str, Any]:
    words, card = speaker.words, found.card
    heads, rows = speaker.passes()
    return {
        "language": {"zh": "zh-CN"}.get(language, language),
        "words": words,
        "version": __version__,
        "name": card.source,
        "from_files": words["from_files"].format(files=whole(card.files), source=card.source),
        "cards": _cards(speaker),
        "answers": speaker.said(),
        "passes": {"heads": heads, "rows": rows},
        "caveats": speaker.caveats(),
        "papers": PAPERS,
        "charts": _charts(found, speaker),
        "documents": speaker.documents(),
        "adds_up": counted_in(card).adds_up,
        "splits": _splits(card, words),
        "bars": _bar_groups(card, words),
        "dropped": _dropped(card),
        "cleaning": _cleaning(card, words),
        "notes": card.notes,
        **_texts(found, speaker),
    }


def _cards(speaker: Speaker) -> list[tuple[str, str]]:
    answer, words, language = speaker.answer, speaker.words, speaker.language
    often = "once" if answer.advice == "enough" else "up_to" if answer.advice == "short" else "times"
    return [
        (words["card_tokens"], people(answer.tokens, language)),
        (words["card_novels"], speaker.novels().strip()),
        (words["card_parameters"], people(answer.parameters, language)),
        (words["card_wanted"], people(answer.wanted, language)),
        (words["card_epochs"], words[often].format(n=answer.epochs)),
    ]


def _splits(card: Card, words: Words) -> dict[str, Any]:
    columns = [name for name in SPLIT_COLUMNS if all(name in row for row in card.splits.values())]
    rows = [
        [words.get(split, split), *(f"{row[c]:,}" for c in columns)] for split, row in card.splits.items()
    ]
    return {"heads": [words["split"], *(words[c] for c in columns)], "rows": rows}


class Bars(NamedTuple):
    """Shares of something, as bars with their names."""

    title: str
    why: str
    bars: list[dict[str, str]]


def _bar_groups(card: Card, words: Words) -> list[Bars]:
    duplicates, privacy = (field_of(card, name) or {} for name in ("duplicates", "privacy"))
    groups: tuple[tuple[str, dict[str, float], dict[str, str]], ...] = (
        ("sources", {n: row["tokens"] for n, row in card.mixed_sources.items()}, {}),
        ("languages", {n: row["tokens"] for n, row in card.languages.items()}, {}),
        (
            "scripts",
            {n: row["bytes"] for n, row in card.scripts.items()},
            {n: f"{size(row['bytes'])} · {row['bytes_per_token']:.2f}" for n, row in card.scripts.items()},
        ),
        ("duplicates", _clusters(duplicates, words), {}),
        ("privacy", {n: _count(value) for n, value in privacy.items()}, {}),
        ("dropped", {n: drop["documents"] for n, drop in card.dropped.items()}, {}),
    )
    return [
        Bars(words[name], words[f"explain_{name}"], _bars(values, words, shown))
        for name, values, shown in groups
        if any(values.values())
    ]


def _clusters(duplicates: Mapping[str, Any], words: Words) -> dict[str, float]:
    """Groups of near duplicates by size, wherever in the table they stand: the counts under whole numbers;
    and the counts that have names of their own."""
    found: dict[str, float] = {}
    for name, value in duplicates.items():
        if isinstance(value, Mapping):
            found |= _clusters(value, words)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[words["group_of"].format(n=name) if name.isdecimal() else name.replace("_", " ")] = value
    return found


def _count(value: Any) -> float:
    """A count that stands alone, or under `found` beside other things."""
    value = value.get("found", 0) if isinstance(value, Mapping) else value
    return value if isinstance(value, int | float) else 0


def _bars(values: Mapping[str, float], words: Words, shown: Mapping[str, str]) -> list[dict[str, str]]:
    """The largest, and the rest together, as shares of the largest."""
    ordered = sorted(values.items(), key=lambda pair: -pair[1])
    rest = sum(value for _, value in ordered[MOST_BARS:])
    ordered = ordered[:MOST_BARS] + ([(words["other"], rest)] if rest else [])
    longest = max((value for _, value in ordered), default=0) or 1
    return [
        {"label": name, "value": shown.get(name, f"{value:,}"), "width": f"{100 * value / longest:.1f}"}
        for name, value in ordered
    ]


def _dropped(card: Card) -> list[dict[str, Any]]:
    return [
        {"reason": reason, "documents": whole(drop["documents"]), "examples": list(drop.get("examples", ()))}
        for reason, drop in card.dropped.items()
        if drop.get("examples")
    ]


def _cleaning(card: Card, words: Words) -> dict[str, Any]:
    rows = [
        [
            name,
            whole(row.get("documents", 0)),
            whole(row.get("characters", 0)),
            words["yes" if row.get("lossy") else "no"],
        ]
        for name, row in card.cleaning.items()
    ]
    return {"heads": [words[n] for n in ("cleaning", "documents", "characters", "lossy")], "rows": rows}


def _texts(found: Found, speaker: Speaker) -> dict[str, Any]:
    """What is said of lengths, words and the vocabulary."""
    lengths, tokens, sample = found.statistics.lengths, found.statistics.tokens, found.statistics.words
    words, vocabulary = speaker.words, found.card.vocabulary
    new = sample.different * (2**sample.heaps - 1) if sample.heaps else None
    return {
        "lengths": words["explain_lengths"].format(
            median=whole(lengths.quantiles.get("50 %", 0)),
            long=whole(lengths.quantiles.get("95 %", 0)),
            longest=whole(lengths.quantiles.get("100 %", 0)),
            mean=whole(lengths.mean),
        ),
        "longest": [(whole(each.document), whole(each.tokens), each.beginning) for each in lengths.longest],
        "sample": words["explain_words"].format(
            bytes=size(sample.bytes),
            of=size(sample.of_bytes),
            words=whole(sample.words),
            different=whole(sample.different),
            once=whole(sample.once),
            new=words["unknown"] if new is None else speaker.many(new),
        ),
        "vocabulary": words["explain_vocabulary"].format(
            kind=vocabulary["kind"],
            size=whole(vocabulary["size"]),
            usable=whole(tokens.vocabulary),
            unused=whole(tokens.unused),
            rare=whole(tokens.rare),
        ),
        "sampled": ""
        if tokens.read == tokens.of
        else words["sampled_tokens"].format(read=whole(tokens.read), of=whole(tokens.of)),
        "frequent": [
            (words["frequent_tokens"], [(marked(each.text), whole(each.times)) for each in tokens.frequent]),
            (words["frequent_words"], [(marked(each.text), whole(each.times)) for each in sample.frequent]),
        ],
    }


def marked(text: str) -> str:
    """A token with its blanks to be seen."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def _charts(found: Found, speaker: Speaker) -> dict[str, dict[str, Any]]:
    """By name: the drawing, what it shows, and what its lines are."""
    words, window = speaker.words, found.asked.window
    tokens, sample = found.statistics.tokens, found.statistics.words
    both = [("a", words["line_tokens"]), ("b", words["line_words"])]
    ends = [("b", words["chart_window"].format(window=whole(window)))] if window else []
    again = [("a", words["line_again"]), ("b", words["line_new"])]
    exponents = {
        name: {
            "tokens": _exponent(getattr(tokens, name), words),
            "words": _exponent(getattr(sample, name), words),
        }
        for name in ("zipf", "heaps")
    }
    drawn: list[tuple[str, str, Iterable[tuple[str, str]], str, str]] = [
        ("lengths", "chart_lengths", ends, "", data_charts.lengths(found.statistics.lengths.bins, window)),
        ("ranks", "chart_ranks", both, "explain_zipf", data_charts.ranks(tokens.ranks, sample.ranks)),
        ("growth", "chart_growth", both, "explain_heaps", data_charts.growth(tokens.growth, sample.growth)),
    ]
    if found.answer.trust != "broken":
        drawn.append(("losses", "chart_losses", again, "", data_charts.losses(found.answer)))
    said = {"ranks": exponents["zipf"], "growth": exponents["heaps"]}
    return {
        name: {
            "title": words[title],
            "lines": list(lines),
            "why": words[why].format(**said[name]) if why else "",
            "svg": _markup(svg),
        }
        for name, title, lines, why, svg in drawn
    }


def _exponent(value: float | None, words: Words) -> str:
    return words["unknown"] if value is None else f"{value:.2f}"


def _markup(svg: str) -> Any:
    from markupsafe import Markup

    return Markup(svg)  # numbers only: no text of the corpus gets here
