"""What was seen on the way from files to shards, for the data card: no text is dropped without a count."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from telos.data import clean

__all__ = ["EXAMPLES", "Drop", "Findings", "counted", "listed", "shown"]

EXAMPLES = 20
"""Of what was dropped for one reason, this many are shown."""


class Drop(NamedTuple):
    """Documents dropped for one reason."""

    documents: int = 0
    bytes: int = 0
    examples: tuple[str, ...] = ()

    def __add__(self, other: "Drop") -> "Drop":  # type: ignore[override]
        examples = (*self.examples, *other.examples)[:EXAMPLES]
        return Drop(self.documents + other.documents, self.bytes + other.bytes, examples)


@dataclass
class Findings:
    """Counts and examples. Those of several tasks are added up in the order of the tasks."""

    files: int = 0
    """That there are to read."""
    documents: int = 0
    """Documents that were read, or parts of them."""
    dropped: dict[str, Drop] = field(default_factory=dict)
    changed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By step of cleaning: documents and characters."""
    invalid: int = 0
    first_invalid: str = ""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Other counts by what they are of (`privacy`) and their kind."""
    notes: list[str] = field(default_factory=list)

    def drop(self, reason: str, text: str, where: str) -> None:
        """Count a document that is not kept, and show the first few."""
        dropped = Drop(1, len(text.encode("utf-8", "replace")), (shown(text, where),))
        self.dropped[reason] = self.dropped.get(reason, Drop()) + dropped

    def change(self, step: str, before: str, after: str) -> None:
        """Count what a step of cleaning did to a text."""
        documents, characters = self.changed.get(step, (0, 0))
        self.changed[step] = documents + 1, characters + clean.changed_characters(before, after)

    def count(self, what: str, kinds: Mapping[str, int]) -> None:
        """Add to the counts of `what`."""
        known = self.counts.setdefault(what, {})
        for kind, number in kinds.items():
            known[kind] = known.get(kind, 0) + number

    def add(self, other: "Findings") -> None:
        """What the next task found."""
        self.files += other.files
        self.documents += other.documents
        self.invalid += other.invalid
        self.first_invalid = self.first_invalid or other.first_invalid
        self.notes += other.notes
        for reason, drop in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, Drop()) + drop
        for step, (documents, characters) in other.changed.items():
            before = self.changed.get(step, (0, 0))
            self.changed[step] = before[0] + documents, before[1] + characters
        for what, kinds in other.counts.items():
            self.count(what, kinds)

    def table(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Findings":
        """What `table` gave, read back."""
        dropped = {why: Drop(n, size, tuple(shown)) for why, (n, size, shown) in table["dropped"].items()}
        changed = {
            step: (documents, characters) for step, (documents, characters) in table["changed"].items()
        }
        return cls(**{**table, "dropped": dropped, "changed": changed})


def shown(text: str, where: str) -> str:
    """The beginning of a document, and where it is from."""
    return f"{where}: {' '.join(text[:200].split())[:80]}"


def counted(number: int, what: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(reasons: Iterable[tuple[str, Drop]]) -> str:
    """Reasons and how many documents each took, in one line."""
    return "; ".join(f"{counted(drop.documents, 'document')} dropped: {why}" for why, drop in reasons)
