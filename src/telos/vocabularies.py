"""Vocabularies beside each other, on a text of one's own: `telos tokenizer compare`.

Each is learned from the train split alone, as preparation does, and measured on the validation split (the
test split where there is none): a choice among vocabularies is one more thing that must not have seen the
test. Fertility is the mean number of tokens per word (Rust et al., 2021, section 3.3), counted where
words stand in the text: a token counts for a word if it holds some of its letters. A word is a run of letters
and digits, apostrophes between letters included; Chinese characters, which are written without blanks, are
counted one by one.
"""

import hashlib
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.data.card import Scripts
from telos.data.documents import SPLITS
from telos.data.findings import counted
from telos.data.prepare import decided
from telos.data.settings import DataSettings
from telos.errors import ConfigError, DataError
from telos.find import suggestion
from telos.recipe import Recipe
from telos.tokenizer import Ids, Tokenizer, TokenizerSettings, check_size, train_tokenizer

__all__ = [
    "KINDS",
    "Compared",
    "Measured",
    "Sample",
    "asked",
    "compare_vocabularies",
    "measure",
    "sample_of",
    "told",
]

KINDS = ("bpe", "unigram", "wordpiece", "byte", "character", "word")
SIZED = ("bpe", "unigram", "wordpiece", "word")
"""Kinds whose size is chosen; the others have one."""
HELD_OUT = 2_000_000
"""Bytes of held-out text, about, that are measured."""
LONGEST = 1 << 18
"""Characters of one document that are measured, at most."""
SECONDS = 0.3
"""How long the speed of encoding is measured, about."""
_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000))
_FEW = 0.005  # of the bytes: scripts below have no column


class Sample(NamedTuple):
    """Texts to learn from, and texts to measure on, of another split."""

    train: list[str]
    held_out: list[str]
    split: str
    """Which one."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one vocabulary makes of the held-out text."""

    name: str
    kind: str
    size: int
    """Tokens, special ones included."""
    asked: int | None
    """The size that was asked for, where it can be chosen."""
    lossless: bool
    """Whether any text comes back, by how it is made."""
    tokens: int
    bytes_per_token: float
    characters_per_token: float
    tokens_per_word: float | None
    """Fertility; `None` where the text has no words between blanks or signs."""
    tokens_per_han: float | None
    """Tokens that hold some of a Chinese character, per Chinese character; `None` where there are none."""
    scripts: dict[str, float]
    """Bytes per token, by script."""
    documents_lost: float
    """Share of the documents that do not come back as they were."""
    bytes_lost: float
    """Share of the bytes that stand in lines which do not come back as they were."""
    unknown: float
    """Share of the tokens that are the unknown one."""
    unused: float
    """Share of the ordinary tokens that the held-out text never has."""
    train_seconds: float | None
    """Seconds that learning took; `None` for a file."""
    encode_rate: float
    """Megabytes (10⁶ bytes) of text per second, on all processors."""
    encoded_by: str
    """As `Tokenizer.encoded_by` says."""
    embedding: int
    """Parameters of an embedding of the given width; as many again where the head is not tied to it."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All vocabularies, and the text that they were compared on."""

    train_bytes: int
    held_out_bytes: int
    held_out_documents: int
    split: str
    words: int
    han: int
    width: int
    vocabularies: tuple[Measured, ...]

    def table(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return asdict(self)

    def markdown(self) -> str:
        """Tables in Markdown."""
        return _markdown(self)


Progress = Callable[[str, int, int], None]
"""Told what is being done, how many vocabularies are done, and of how many."""


def compare_vocabularies(
    recipe: Recipe,
    kinds: Sequence[str] = KINDS,
    sizes: Sequence[int] = (2000, 8000, 16000),
    files: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Compared:
    """Learn every kind in every size from the recipe's training text, and measure them on its held-out text,
    with the vocabularies in `files` (each a `tokenizer.json`) beside them.

    `recipe.tokenizer` gives what is not compared: `min_frequency`, `sample`, and, if it has a `path`, one
    more file.

    Raises:
        ConfigError: there is no such kind, or a size is too small for one; before any text is read.
        DataError: the text cannot be read, nothing of it is held out, or a file is no vocabulary.
    """
    wanted = [*_settings(recipe.tokenizer, kinds, sizes), *_files(recipe.tokenizer, files)]
    report = progress or _silent
    report("reading the text", 0, len(wanted))
    sample = sample_of(recipe)
    text = _Text(sample.held_out)
    width = _width(recipe)
    found = []
    for done, settings in enumerate(wanted):
        report(_name(settings), done, len(wanted))
        begin = time.perf_counter()
        tokenizer = train_tokenizer(settings, iter(sample.train))
        seconds = None if settings.path else time.perf_counter() - begin
        found.append(measure(tokenizer, text, settings, width, seconds))
    return Compared(
        train_bytes=sum(len(each.encode()) for each in sample.train),
        held_out_bytes=text.bytes,
        held_out_documents=len(text.texts),
        split=sample.split,
        words=text.words,
        han=text.han,
        width=width,
        vocabularies=tuple(found),
    )


def _width(recipe: Recipe) -> int:
    """Of the model's embedding; some models name it apart from their own width."""
    widths = (getattr(recipe.model, name, None) for name in ("embedding", "width"))
    return next((width for width in widths if isinstance(width, int)), 512)


def _silent(what: str, done: int, total: int) -> None:
    """Nobody wants to know."""


# ---- what is compared


def asked(kinds: str, sizes: str, changes: Sequence[str] = ()) -> tuple[list[str], list[int]]:
    """Kinds and sizes from the words of a command line. `changes`: what else stands there, where a list that
    was divided by blanks ends up.

    Raises:
        ConfigError: they are no lists divided by commas.
    """
    if stray := [change for change in changes if "=" not in change]:
        name, first = ("kinds", kinds) if stray[0] in KINDS else ("sizes", sizes)
        raise ConfigError(
            f"{stray[0]!r} is no setting. Divide a list by commas: --{name} {first},{stray[0]}."
        )
    numbers = [part.strip().replace("_", "") for part in sizes.split(",") if part.strip()]
    if not numbers or not all(part.isascii() and part.isdecimal() for part in numbers):
        raise ConfigError(f"sizes = {sizes!r}: must be whole numbers divided by commas, such as 2000,8000.")
    return [part.strip() for part in kinds.split(",") if part.strip()], [int(part) for part in numbers]


def told(what: str, done: int, total: int) -> None:
    """Progress, as a line on standard error."""
    print(f"{what} ({done} of {total} done) …", file=sys.stderr, flush=True)


def _settings(
    given: TokenizerSettings, kinds: Sequence[str], sizes: Sequence[int]
) -> Iterator[TokenizerSettings]:
    """Every kind in every size; those without a choice of size once."""
    for kind in dict.fromkeys(kinds):
        if kind not in KINDS:
            hint = suggestion(kind, list(KINDS))
            raise ConfigError(f"kinds: there is no kind {kind!r}.{hint} There are: {', '.join(KINDS)}.")
        for size in dict.fromkeys(sizes) if kind in SIZED else [given.size]:
            settings = given.model_copy(update={"kind": kind, "size": size, "path": None, "special": {}})
            try:
                check_size(settings)
            except ConfigError as error:
                raise ConfigError(f"sizes: {error} That is of kind {kind!r}.") from None
            yield settings


def _files(given: TokenizerSettings, files: Sequence[Path]) -> Iterator[TokenizerSettings]:
    """Those that were named; their special tokens play no part here."""
    for path in dict.fromkeys([*([given.path] if given.path else []), *files]):
        settings = TokenizerSettings(path=path)
        train_tokenizer(settings, iter(()))  # says at once if it is none
        yield settings


def _name(settings: TokenizerSettings) -> str:
    if settings.path is not None:
        path = settings.path
        return path.parent.name if path.name == "tokenizer.json" and path.parent.name else path.stem
    return f"{settings.kind} {settings.size}" if settings.kind in SIZED else settings.kind


def sample_of(recipe: Recipe) -> Sample:
    """What preparation would learn the vocabulary from, and a bounded part of what it would hold out, drawn
    by content.

    Raises:
        DataError: the text cannot be read, or nothing of it is held out.
    """
    with TemporaryDirectory(prefix="telos-") as work:
        cleaned, decisions = decided(recipe.data, recipe.tokenizer.sample, Path(work))
        split = next((name for name in ("validation", "test") if decisions.bytes[name]), None)
        if split is None:
            raise _nothing_held_out(recipe.data)
        held_out: list[str] = []
        share = HELD_OUT / decisions.bytes[split]
        for task, codes in zip(cleaned, decisions.codes, strict=True):
            for text in task.written(np.flatnonzero(codes == SPLITS.index(split))):
                if _drawn(text.text) < share or not held_out:
                    held_out.append(text.text[:LONGEST])
    return Sample(train=decisions.sample, held_out=held_out, split=split)


def _drawn(text: str) -> float:
    """A number in [0, 1) by content."""
    digest = hashlib.blake2b(text[:4096].encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32


def _nothing_held_out(settings: DataSettings) -> DataError:
    return DataError(
        f"{settings.path or settings.source}: nothing is held out, and vocabularies are measured on text "
        "that they were not learned from. Set data.split.validation to a share above 0, such as 0.05, or "
        "data.validation to text of your own."
    )


# ---- measuring


class _Text:
    """The held-out text, and where in it words and Chinese characters are."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.bytes = sum(len(text.encode()) for text in texts)
        self.characters = sum(map(len, texts))
        self.letters: list[Ids] = []
        self.hans: list[Ids] = []
        self.words = self.han = 0
        for text in texts:
            letter, han = _letters(text)
            begins = letter & ~np.concatenate([[False], letter[:-1]])
            self.words += int(begins.sum())
            self.han += int(han.sum())
            self.letters.append(_before(letter))
            self.hans.append(_before(han))


def _letters(text: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which characters of a text belong to words, and which are Chinese: two vectors (n,)."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
    every, which = np.unique(codes, return_inverse=True)
    kinds = [unicodedata.category(chr(code))[0] in "LMN" for code in every.tolist()]
    han = np.zeros(len(codes), np.bool_)
    for low, high in _HAN:
        han |= (codes >= low) & (codes < high)
    letter = np.array(kinds, np.bool_)[which.reshape(-1)] & ~han
    inside = np.zeros(len(codes), np.bool_)  # apostrophes
    inside[1:-1] = np.isin(codes[1:-1], (0x27, 0x2019)) & letter[:-2] & letter[2:]
    return letter | inside, han


def _before(marked: NDArray[np.bool_]) -> Ids:
    """How many are marked before each place, and in all (n + 1,)."""
    return np.concatenate([[0], np.cumsum(marked, dtype=np.int64)])


def measure(
    tokenizer: Tokenizer, text: _Text, settings: TokenizerSettings, width: int, seconds: float | None
) -> Measured:
    """What this vocabulary makes of a text."""
    scripts, in_words, in_han = Scripts(), 0, 0
    used = np.zeros(tokenizer.size, np.int64)
    rate = _rate(tokenizer, text)
    documents_lost = bytes_lost = 0
    for each, letters, han in zip(text.texts, text.letters, text.hans, strict=True):
        ids, at = tokenizer.encode_offsets(each)
        scripts.add_spans(each, at)
        used += np.bincount(ids, minlength=tokenizer.size)
        in_words += _touching(at, letters)
        in_han += _touching(at, han)
        lost = _lost(each, tokenizer.decode(ids))
        documents_lost, bytes_lost = documents_lost + (lost > 0), bytes_lost + lost
    tokens = int(used.sum())
    ordinary = np.ones(tokenizer.size, np.bool_)
    ordinary[list(tokenizer.special_ids)] = False
    unknown = 0 if tokenizer.unknown is None or tokenizer.lossless else int(used[tokenizer.unknown])
    return Measured(
        name=_name(settings),
        kind=tokenizer.kind,
        size=tokenizer.size,
        asked=settings.size if settings.path is None and settings.kind in SIZED else None,
        lossless=tokenizer.lossless,
        tokens=tokens,
        bytes_per_token=_share(text.bytes, tokens),
        characters_per_token=_share(text.characters, tokens),
        tokens_per_word=_share(in_words, text.words) if text.words else None,
        tokens_per_han=_share(in_han, text.han) if text.han else None,
        scripts=_by_script(scripts),
        documents_lost=_share(documents_lost, len(text.texts)),
        bytes_lost=_share(bytes_lost, text.bytes),
        unknown=_share(unknown, tokens),
        unused=_share(int((used[ordinary] == 0).sum()), int(ordinary.sum())),
        train_seconds=seconds if seconds is None else round(seconds, 3),
        encode_rate=round(rate, 2),
        encoded_by=tokenizer.encoded_by(),
        embedding=tokenizer.size * width,
    )


def _rate(tokenizer: Tokenizer, text: _Text) -> float:
    """The best of a few runs, in 10⁶ bytes per second, without what is prepared once."""
    tokenizer.encoded_by(text.texts)
    tokenizer.encode_batch(text.texts[:1])
    best, begin = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        tokenizer.encode_batch(text.texts)
        best = min(best, time.perf_counter() - start)
    return text.bytes / 1e6 / max(best, 1e-9)


def _touching(at: Ids, before: Ids) -> int:
    """How many tokens (n, 2) hold a marked character."""
    return int((before[at[:, 1]] > before[at[:, 0]]).sum())


def _lost(text: str, back: str) -> int:
    """Bytes of the lines that did not come back as they were: all, where the number of lines changed."""
    if text == back:
        return 0
    lines, others = text.split("\n"), back.split("\n")
    if len(lines) != len(others):
        return len(text.encode())
    return max(1, sum(len(a.encode()) for a, b in zip(lines, others, strict=True) if a != b))


def _by_script(scripts: Scripts) -> dict[str, float]:
    rows = scripts.table()
    total = sum(row["bytes"] for row in rows.values())
    return {n: row["bytes_per_token"] for n, row in rows.items() if row["bytes"] >= _FEW * total}


def _share(part: int, whole: int) -> float:
    return round(part / max(1, whole), 5)


# ---- shown to people


def _markdown(found: Compared) -> str:
    every = found.vocabularies
    held = f"{counted(found.held_out_documents, 'document')}, {found.held_out_bytes:,} bytes"
    parts = [
        f"Learned from {found.train_bytes:,} bytes of the train split. Measured on the {found.split} split: "
        f"{held}, {found.words:,} words, {found.han:,} Chinese characters.\n",
        _table(every, "What a token holds", _holds),
        _table(every, "Bytes per token, by script", lambda each: _scripts(each, every)),
        _table(every, "What does not come back", _losses),
        _table(every, "What it costs", lambda each: _costs(each, found.width)),
    ]
    if best := [each for each in every if each.documents_lost == 0]:
        first = max(best, key=lambda each: each.bytes_per_token)
        what = f"{first.name} ({first.bytes_per_token:.2f} bytes per token)"
        parts.append(f"Fewest tokens, where every text comes back: {what}.")
    return "\n".join(parts)


def _table(every: Sequence[Measured], title: str, columns: Callable[[Measured], dict[str, str]]) -> str:
    """A row for each vocabulary; cells as wide as their column, so that it is a table in a terminal too."""
    rows = [{"vocabulary": each.name, **columns(each)} for each in every]
    heads = list(rows[0])
    wide = {head: max(len(head), *(len(row[head]) for row in rows)) for head in heads}
    rule = {head: "-" * (wide[head] - 1) + ("-" if head == heads[0] else ":") for head in heads}
    return f"## {title}\n\n" + "".join(_line(row, wide) for row in ({h: h for h in heads}, rule, *rows))


def _line(row: Mapping[str, str], wide: Mapping[str, int]) -> str:
    first, *others = wide
    cells = [row[first].ljust(wide[first]), *(row[head].rjust(wide[head]) for head in others)]
    return f"| {' | '.join(cells)} |\n"


def _holds(each: Measured) -> dict[str, str]:
    less = "" if each.asked in (None, 0, each.size) else f" of {each.asked:,}"
    return {
        "size": f"{each.size:,}{less}",
        "bytes": f"{each.bytes_per_token:.2f}",
        "characters": f"{each.characters_per_token:.2f}",
        "tokens per word": _number(each.tokens_per_word),
        "tokens per Han": _number(each.tokens_per_han),
        "never used": f"{each.unused:.1%}",
    }


def _scripts(each: Measured, every: Sequence[Measured]) -> dict[str, str]:
    names = dict.fromkeys(name for one in every for name in one.scripts)
    return {name: _number(each.scripts.get(name)) for name in names}


def _losses(each: Measured) -> dict[str, str]:
    return {
        "documents": f"{each.documents_lost:.1%}",
        "bytes, by lines": f"{each.bytes_lost:.1%}",
        "unknown tokens": f"{each.unknown:.2%}",
    }


def _costs(each: Measured, width: int) -> dict[str, str]:
    return {
        "learning, s": _number(each.train_seconds),
        "encoding, MB/s": f"{each.encode_rate:.1f}",
        "encoded by": each.encoded_by,
        f"embedding, width {width}": f"{each.embedding:,}",
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
