"""The data card: what is in the prepared data, what was
dropped and why, and what the vocabulary makes of it."""

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.data import clean
from telos.data.findings import Findings, counted
from telos.data.settings import DataSettings, OriginSettings
from telos.errors import DataError
from telos.tokenizer import Tokenizer

__all__ = ["Card", "Counts", "Scripts", "read_card", "unknown_bytes"]

_BLOCKS = """
0000 Common|0041 Latin|005b Common|0061 Latin|007b Common|00aa Latin|00ab Common|00ba Latin|00bb Common|00c0
Latin|02b0 Common 0370 Greek|0400 Cyrillic|0530 Armenian|0590 Hebrew|0600 Arabic|0700 Other|0750 Arabic|0780
Other|08a0 Arabic|0900 Devanagari 0980 Bengali|0a00 Other|0b80 Tamil|0c00 Other|0e00 Thai|0e80 Other|10a0
Georgian|1100 Hangul|1200 Ethiopic|13a0 Other 1c80 Cyrillic|1c90 Georgian|1cc0 Other|1d00 Latin|1dc0
Common|1e00 Latin|1f00 Greek|2000 Common|2c60 Latin|2c80 Other 2de0 Cyrillic|2e00 Common|2e80 Han|2fe0
Common|3005 Han|3008 Common|3021 Han|3030 Common|3040 Kana|3100 Other|3130 Hangul 3190 Other|31f0 Kana|3200
Common|3400 Han|4dc0 Common|4e00 Han|a000 Other|a640 Cyrillic|a6a0 Other|a720 Latin|a800 Other a960
Hangul|a980 Other|ab30 Latin|ab70 Other|ac00 Hangul|d800 Other|f900 Han|fb00 Latin|fb13 Other|fb1d Hebrew|fb50
Arabic fe00 Common|fe70 Arabic|ff00 Common|ff21 Latin|ff3b Common|ff41 Latin|ff5b Common|ff66 Kana|ffa0
Hangul|ffe0 Common 10000 Other|1f000 Common|1fb00 Other|20000 Han|32000 Other
"""
"""Where each script begins (Unicode blocks, in rough): letters by their script, digits and signs of all
scripts as Common."""
_STARTS, _SCRIPTS = zip(
    *(
        (int(code, 16), name)
        for code, name in zip(*[iter(_BLOCKS.replace("|", " ").split())] * 2, strict=True)
    ),
    strict=True,
)
NAMES = sorted(set(_SCRIPTS))
_BEGIN = np.array(_STARTS, dtype=np.int64)
_NUMBER = np.array([NAMES.index(name) for name in _SCRIPTS], dtype=np.int64)


UNKNOWN = "und"
"""The language of a text of which it is not known (ISO 639-2)."""
MOST_LANGUAGES = 200
"""On the card; the filter knows 176."""


class Counts(NamedTuple):
    """What one split holds."""

    documents: int = 0
    bytes: int = 0
    """Of UTF-8, of the cleaned text: what bits per byte divides by."""
    characters: int = 0
    tokens: int = 0

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Scripts:
    """Bytes and tokens by script, measured on a sample. A token is of the script of its last character."""

    def __init__(self) -> None:
        self._bytes = np.zeros(len(NAMES), np.int64)
        self._tokens = np.zeros(len(NAMES), np.int64)

    def add(self, text: str, tokenizer: Tokenizer) -> None:
        """Count a text."""
        self.add_spans(text, tokenizer.encode_offsets(text)[1])

    def add_spans(self, text: str, at: NDArray[np.int64]) -> None:
        """Count a text whose tokens begin and end at these characters (n, 2)."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
        script = _NUMBER[np.searchsorted(_BEGIN, codes, side="right") - 1]
        width = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
        last = at[at[:, 1] > at[:, 0], 1] - 1
        np.add.at(self._tokens, script[last], 1)
        # Blanks and signs inside a token count with it: a character goes where its token goes.
        owner = np.minimum(np.searchsorted(last, np.arange(len(codes))), max(0, len(last) - 1))
        np.add.at(self._bytes, script[last][owner] if len(last) else script, width)

    def state(self) -> tuple[list[int], list[int]]:
        """What was counted, as plain data."""
        return self._bytes.tolist(), self._tokens.tolist()

    def add_state(self, state: tuple[list[int], list[int]]) -> None:
        """What was counted elsewhere."""
        self._bytes += np.array(state[0], np.int64)
        self._tokens += np.array(state[1], np.int64)

    def table(self) -> dict[str, dict[str, float]]:
        """Script → bytes, tokens and bytes per token, the most frequent first."""
        rows = {
            n: (int(b), int(t)) for n, b, t in zip(NAMES, self._bytes, self._tokens, strict=True) if b or t
        }
        ordered = sorted(rows.items(), key=lambda row: -row[1][0])
        return {
            n: {"bytes": b, "tokens": t, "bytes_per_token": round(b / max(t, 1), 3)} for n, (b, t) in ordered
        }


def script_of(character: str) -> str:
    """The script that the table above gives a character."""
    return str(_SCRIPTS[bisect_right(_STARTS, ord(character)) - 1])


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything that `card.json` holds; `markdown` shows it to people."""

    key: str
    source: str
    files: int
    documents: int
    """That were read: those of the splits and those that were dropped, for whatever reason."""
    splits: Mapping[str, Mapping[str, float]]
    vocabulary: Mapping[str, Any]
    scripts: Mapping[str, Mapping[str, float]]
    dropped: Mapping[str, Mapping[str, Any]]
    cleaning: Mapping[str, Mapping[str, Any]]
    invalid: Mapping[str, Any]
    skipped_files: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What there is of each source that has a name, in the order of their numbers in the column `source`."""
    languages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """And in each language, where sources or the filter say which it is; the most first."""
    duplicates: Mapping[str, int] = field(default_factory=dict)
    """Near copies, where they were looked for, before they were dropped."""
    privacy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Personal data by its kind: how often it was found, and what it looked like, with `0` for each digit."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What sources left out of files, by reason, before there were documents."""
    contamination: Mapping[str, int] = field(default_factory=dict)
    """Texts to train on that hold text of evaluation sets, and their bytes, where that was looked for."""
    passages: Mapping[str, int] = field(default_factory=dict)
    """Texts out of which passages that stood before were cut, and the characters of these."""
    lossy: tuple[str, ...] = ()
    """Names of what lost something of the text: bits per byte are of the text after it."""
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """Names of the classes in the column `label`, by number."""
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By their names in order, documents of each split; under the empty name those of no class."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By which it was prepared: of the data, the vocabulary, and what the objective asks for."""

    def write(self, folder: Path) -> None:
        """`card.json` and `card.md`."""
        (folder / "card.json").write_text(
            json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (folder / "card.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """The card as Markdown."""
        v = self.vocabulary
        source = f"Source: {_plain(self.source)}, {counted(self.files, 'file')}. Prepared as `{self.key}`."
        kept = sum(int(split["documents"]) for split in self.splits.values())
        dropped = sum(drop["documents"] for drop in self.dropped.values())
        balance = f"{counted(self.documents, 'document')} read = {kept:,} kept + {dropped:,} dropped."
        asked = f"asked for: {v['asked']:,}" if v["asked"] else "asked for: all"
        notes = "".join(f"- {_plain(note)}\n" for note in self.notes)
        parts = [
            f"# Data card\n\n{source} {balance}\n",
            _table("Split", self.splits),
            _table("Source", self.mixed_sources),
            _table("Language", {_plain(name): row for name, row in self.languages.items()}),
            _table("Class", {_plain(name) or "(none)": row for name, row in self.classes.items()}),
            f"## Vocabulary\n\n{v['kind']}, {v['size']:,} tokens ({asked}), hash `{v['hash']}`.",
            self._round_trip(),
            _table("Script", self.scripts, "## Bytes per token by script\n\nMeasured on a sample.\n\n"),
            self._changes(),
            self._dropped(),
            self._duplicates(),
            self._contaminated(),
            self._cut(),
            _table("Kind", _flat(self.privacy), "## Personal data\n\n") if self.privacy else "",
            f"## Notes\n\n{notes}" if notes else "",
        ]
        return "\n".join(part for part in parts if part)

    @property
    def mixed_sources(self) -> Mapping[str, Mapping[str, float]]:
        """The sources, unless they are the languages, which are shown anyway."""
        return {} if self.sources.keys() == self.languages.keys() else self.sources

    def _round_trip(self) -> str:
        v = self.vocabulary
        if v["lossless"]:
            return "Every text comes back from its tokens byte for byte.\n"
        documents, size, unknown = v["documents_changed"], v["bytes_changed"], v["unknown"]
        return (
            f"Lossy: {documents:.1%} of the documents ({size:.1%} of the bytes) do not come back from their "
            f"tokens byte for byte; {unknown:.2%} of the tokens stand for what it does not hold.\n"
            + "".join(
                f"\nOf the {split} split, {lost['unknown']:.2%} of the tokens and "
                f"{lost['unknown_bytes']:.2%} of the bytes are unknown and do not come back.\n"
                for split, lost in v.get("held_out", {}).items()
            )
        )

    def _changes(self) -> str:
        lost = f"Lossy steps that changed something: {', '.join(self.lossy)}.\n\n" if self.lossy else ""
        bad = self.invalid
        where = f" First: {_plain(bad['first'])}." if bad["first"] else ""
        text = f"Invalid characters: {bad['count']:,} (policy: {bad['policy']}).{where}\n"
        return _table("Step", self.cleaning, f"## Cleaning\n\n{lost}") + text

    def _cut(self) -> str:
        if not self.passages:
            return ""
        texts, size = self.passages["texts"], self.passages["characters"]
        return (
            f"## Passages\n\n{counted(size, 'character')} that stood before were cut out of "
            f"{counted(texts, 'text')}.\n"
        )

    def _contaminated(self) -> str:
        if not self.contamination:
            return ""
        texts, size = self.contamination["texts"], self.contamination["bytes"]
        return (
            f"## Evaluation sets\n\n{counted(texts, 'text')} to train on ({counted(size, 'byte')}) hold text "
            "of an evaluation set.\n"
        )

    def _duplicates(self) -> str:
        if not self.duplicates:
            return ""
        clusters, copies, held_out = (
            self.duplicates.get(name, 0) for name in ("clusters", "near copies", "of held-out text")
        )
        return (
            f"## Near copies\n\n{counted(copies, 'text')} like an earlier one, in "
            f"{counted(clusters, 'cluster')}; "
            f"{held_out:,} of them to train on and like held-out text.\n"
        )

    def _dropped(self) -> str:
        if not self.dropped and not self.skipped_files and not self.left_out:
            return "## Dropped\n\nNothing.\n"
        lines = ["## Dropped\n"]
        for reason, drop in self.dropped.items():
            lines.append(
                f"- {reason}: {counted(drop['documents'], 'document')}, {counted(drop['bytes'], 'byte')}"
            )
            lines += [f"    - `{_plain(example)}`" for example in drop["examples"]]
        for suffix, count in self.skipped_files.items():
            lines.append(f"- files that no source reads: {count:,} {_plain(suffix) or 'without suffix'}")
        lines += [f"- left out of files: {count:,} {_plain(why)}" for why, count in self.left_out.items()]
        return "\n".join(lines) + "\n"


def read_card(folder: Path) -> Card:
    """The card of prepared data.

    Raises:
        DataError: it is not there or cannot be read.
    """
    path = folder / "card.json"
    try:
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fields: Any = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        return Card(**fields)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: the data card cannot be read: {error}. Delete the folder and prepare again."
        ) from None


def unknown_bytes(split: Path) -> float | None:
    """The share of a held-out split's bytes that its vocabulary does not hold, from the card beside the
    split's folder; `None` where there is none, or nothing was measured.

    Raises:
        DataError: the card cannot be read.
    """
    if not (split.parent / "card.json").is_file():
        return None
    measured = read_card(split.parent).vocabulary.get("held_out", {}).get(split.name)
    return None if measured is None else float(measured["unknown_bytes"])


def make_card(
    key: str,
    settings: DataSettings,
    findings: Findings,
    splits: Mapping[str, Counts],
    scripts: Scripts,
    vocabulary: Mapping[str, Any],
    labels: tuple[str, ...] = (),
    skipped_files: Mapping[str, int] | None = None,
    sources: Mapping[str, Counts] | None = None,
    languages: Mapping[str, Counts] | None = None,
) -> Card:
    """All that was found, as a card. Every document that was read is on it, as kept or as dropped."""
    steps = {step.name: step for step in clean.steps(settings.clean)}
    changed = {
        n: {"documents": d, "characters": c, "lossy": steps[n].lossy}
        for n, (d, c) in findings.changed.items()
    }
    kept, dropped = (sum(counts.documents for counts in splits.values()), findings.dropped.values())
    assert findings.documents == kept + sum(drop.documents for drop in dropped), "a document was lost"
    return Card(
        key=key,
        source=", ".join(_named(origin) for origin in settings.origins),
        files=findings.files,
        documents=findings.documents,
        splits=_rows(splits),
        sources=_rows(sources or {}),
        languages=_rows(_spoken(languages or {})),
        duplicates=findings.counts.get("duplicates", {}),
        privacy={
            kind: {"found": number, "shapes": findings.shapes.get(kind, [])}
            for kind, number in sorted(findings.counts.get("privacy", {}).items())
        },
        left_out=findings.counts.get("left out", {}),
        contamination=findings.counts.get("contamination", {}),
        passages=findings.counts.get("passages", {}),
        vocabulary=vocabulary,
        scripts=scripts.table(),
        dropped={reason: drop._asdict() for reason, drop in findings.dropped.items()},
        cleaning=changed,
        invalid={
            "count": findings.invalid,
            "first": findings.first_invalid,
            "policy": settings.clean.invalid,
        },
        skipped_files=skipped_files or {},
        lossy=tuple(name for name in changed if steps[name].lossy),
        notes=tuple(findings.notes),
        labels=labels,
    )


def _rows(counts: Mapping[str, Counts]) -> dict[str, dict[str, float]]:
    return {
        name: {**each._asdict(), "bytes_per_token": round(each.bytes / max(each.tokens, 1), 3)}
        for name, each in counts.items()
    }


def _spoken(languages: Mapping[str, Counts]) -> dict[str, Counts]:
    """Nothing where none is known; what is beyond `MOST_LANGUAGES` together."""
    if not languages.keys() - {UNKNOWN}:
        return {}
    ordered = sorted(languages.items(), key=lambda each: (-each[1].bytes, each[0]))
    rest = sum((counts for _, counts in ordered[MOST_LANGUAGES:]), Counts())
    return dict(ordered[:MOST_LANGUAGES]) | ({"other": rest} if rest.documents else {})


def _named(origin: OriginSettings) -> str:
    """What a source is called on the card, without this machine's folders."""
    return PurePosixPath(str(origin.path)).name if origin.path else origin.source


def _table(first: str, rows: Mapping[str, Mapping[str, Any]], before: str = "") -> str:
    if not rows:
        return before
    columns = list(next(iter(rows.values())))
    head = f"| {first} | {' | '.join(c.replace('_', ' ') for c in columns)} |\n|---|{'---|' * len(columns)}\n"
    body = "".join(
        f"| {name} | {' | '.join(_shown(row[c]) for c in columns)} |\n" for name, row in rows.items()
    )
    return before + head + body


def _flat(privacy: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        kind: {"found": each["found"], "looks like": ", ".join(f"`{_plain(s)}`" for s in each["shapes"])}
        for kind, each in privacy.items()
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _plain(text: str) -> str:
    """Text of the corpus or of file names without what Markdown or HTML would take for markup."""
    for character in "`<>|[]":
        text = text.replace(character, "·")
    return text
