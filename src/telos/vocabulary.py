"""How each kind of vocabulary is learned, and how the file of one is told from another's.

Special tokens come after what is made here and are no part of it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, final

import tokenizers as library
from pydantic import Field, model_validator
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers

from telos.config import Lax, Settings

__all__ = [
    "LEARN",
    "LEAST",
    "SPECIALS",
    "UNKNOWN",
    "TokenizerSettings",
    "cut",
    "is_lossless",
    "kind_of",
    "note",
    "noted",
    "rows_in",
    "unmap",
]

SPECIALS = ("<|pad|>", "<|begin|>", "<|end|>", "<|mask|>", "<|separate|>")
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where text is split before pieces are found: the pattern of Qwen2, which other libraries know too."""
UNKNOWN = {"character": "<|unknown|>", "word": "<unk>"}
PROBE = 1_000_000
"""Characters at the beginning of the training text in which the different runs are counted."""
DIFFERENT = 8_000_000
"""Bytes of different runs that are learned from, about: learning takes a hundred times as much memory."""
_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@final
class TokenizerSettings(Settings):
    """Which vocabulary."""

    kind: Literal["bpe", "wordpiece", "unigram", "byte", "character", "word"] = "bpe"
    """How text is cut into tokens: merged byte pairs, longest matches, likeliest pieces, single bytes, single
    characters, or whole words."""
    size: int = Field(8192, ge=0)
    """Tokens in all, special ones included. For `word`, 0 means every word. `byte` and `character` are as
    large as they are."""
    path: Annotated[Path, Lax] | None = None
    """An existing `tokenizer.json` to use as it is; nothing is trained, and `kind` and `size` are the
    file's."""
    special: dict[str, str] = Field(default_factory=dict)
    """Tokens of that file that play the parts of special ones here, such as { begin = "<s>", end = "</s>" };
    those that are not named here or not in the file are added to it."""
    min_frequency: int = Field(0, ge=0)
    """What is rarer in the training text gets no token of its own; 0 means 2 for pairs of pieces, 1 for words
    and characters. `unigram` and `byte` have none."""
    sample: int = Field(64_000_000, ge=1)
    """Bytes of the training split that the vocabulary is learned from, at most: fewer where words hardly
    repeat, to save memory. Chosen by content, so always the same ones."""

    @model_validator(mode="after")
    def _special_of_a_file(self) -> "TokenizerSettings":
        if self.special and self.path is None:
            raise ValueError(
                "special names tokens of an existing file and does nothing without one: set path, or leave "
                "it out; what is learned here has its own special tokens"
            )
        return self


# ---- one function per kind: settings, texts, size without specials → the library's tokenizer


def _byte_level(model: Any, *between: Any) -> library.Tokenizer:
    inner = library.Tokenizer(model)
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([split, *between, level])
    inner.decoder = decoders.ByteLevel()
    return inner


def _bpe(
    settings: TokenizerSettings, texts: Iterator[str], size: int, specials: Sequence[str]
) -> library.Tokenizer:
    inner = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=settings.min_frequency or 2,
        initial_alphabet=_ALPHABET,
        show_progress=False,
    )
    inner.train_from_iterator(affordable(texts), trainer)
    return inner


def _wordpiece(
    settings: TokenizerSettings, texts: Iterator[str], size: int, specials: Sequence[str]
) -> library.Tokenizer:
    """`#` stands alone, so that `##` is the mark of a continuation and nothing else; longer runs than 32 are
    cut, since the longest match of a run takes time with its square."""
    between = [
        pre_tokenizers.Split("#", "isolated"),
        pre_tokenizers.Split(Regex(r"[\s\S]{1,32}"), "isolated"),
    ]
    learner = _byte_level(models.WordPiece(unk_token="#"), *between)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=settings.min_frequency or 2,
        special_tokens=[*_ALPHABET, *(f"##{c}" for c in _ALPHABET if c != "#")],
        show_progress=False,
    )
    learner.train_from_iterator(affordable(texts), trainer)
    vocabulary = json.loads(learner.to_str())["model"]["vocab"]
    model = models.WordPiece(vocab=vocabulary, unk_token="#", max_input_chars_per_word=1000)
    inner = _byte_level(model, *between)
    inner.decoder = decoders.Sequence([decoders.Replace(Regex("^##"), ""), decoders.ByteLevel()])
    return inner


def _unigram(
    settings: TokenizerSettings, texts: Iterator[str], size: int, specials: Sequence[str]
) -> library.Tokenizer:
    learner = _byte_level(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=size, initial_alphabet=_ALPHABET, show_progress=False)
    learner.train_from_iterator(affordable(texts), trainer)
    learned = json.loads(learner.to_str())["model"]["vocab"]
    return _byte_level(models.Unigram(_steady(learned), None, False))


def _steady(pieces: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The library sums in no fixed order and scores characters it never saw in one drawn at random: undo
    both."""
    floor = min((score for piece, score in pieces if len(piece) > 1), default=0.0)
    scores = {piece: round(score if score >= floor else floor - 1, 4) for piece, score in pieces}
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def _byte(
    settings: TokenizerSettings, texts: Iterator[str], size: int, specials: Sequence[str]
) -> library.Tokenizer:
    byte_to_character = {unmap(c): c for c in _ALPHABET}
    vocabulary = {byte_to_character[bytes([value])]: value for value in range(256)}
    inner = library.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _character(
    settings: TokenizerSettings, texts: Iterator[str], size: int, specials: Sequence[str]
) -> library.Tokenizer:
    counts: dict[str, int] = {}
    for text in texts:
        for character in set(text) if settings.min_frequency <= 1 else text:
            counts[character] = counts.get(character, 0) + 1
    unknown = UNKNOWN["character"]
    kept = sorted(c for c, count in counts.items() if count >= settings.min_frequency)
    vocabulary = {text: id for id, text in enumerate([unknown, *kept])}
    inner = library.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=unknown))
    inner.decoder = decoders.Fuse()
    return inner


def _word(
    settings: TokenizerSettings, texts: Iterator[str], size: int, specials: Sequence[str]
) -> library.Tokenizer:
    unknown = UNKNOWN["word"]
    learner = _words(models.WordLevel(unk_token=unknown))
    trainer = trainers.WordLevelTrainer(
        vocab_size=1 << 40, min_frequency=settings.min_frequency, special_tokens=[], show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learned: dict[str, int] = json.loads(learner.to_str())["model"]["vocab"]
    by_frequency = [
        w for w in sorted(learned, key=learned.__getitem__) if w not in (unknown, "\n", *specials)
    ]
    kept = [unknown, "\n", *by_frequency][: size or None]
    return _words(models.WordLevel(vocab={word: id for id, word in enumerate(kept)}, unk_token=unknown))


def _words(model: Any) -> library.Tokenizer:
    inner = library.Tokenizer(model)
    lines = pre_tokenizers.Split("\n", "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [lines, pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed")]
    )
    return inner


LEARN: Mapping[str, Callable[[TokenizerSettings, Iterator[str], int, Sequence[str]], library.Tokenizer]] = {
    "bpe": _bpe,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "byte": _byte,
    "character": _character,
    "word": _word,
}
"""How each kind is learned, given a size without special tokens (0: no limit) and their names."""
LEAST = {"bpe": 256, "wordpiece": 511, "unigram": 256, "word": 2}
"""Tokens that each kind of vocabulary holds whatever the text, where its size can be chosen."""


# ---- what a tokenizer.json is


def kind_of(file: dict[str, Any]) -> str:
    """The kind that the file of a vocabulary trained here shows; `foreign` for any other.

    A file whose model itself holds a special token is foreign too: its text can become special.
    """
    model, splits = file["model"], json.dumps(file["pre_tokenizer"], ensure_ascii=True)
    special = {token["content"] for token in file["added_tokens"] if token["special"]}
    if file["normalizer"] is not None or file["post_processor"] is not None or special & _pieces(file):
        return "foreign"
    if model["type"] == "WordLevel":
        return "word" if model["unk_token"] == UNKNOWN["word"] and r"[^\\S\\n]+" in splits else "foreign"
    if model["type"] == "BPE" and not model["merges"]:
        if file["pre_tokenizer"] is None:
            return "character" if model["unk_token"] == UNKNOWN["character"] else "foreign"
        return "byte" if is_lossless(file) else "foreign"
    names = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}
    return names[model["type"]] if json.dumps(PATTERN) in splits and is_lossless(file) else "foreign"


def _pieces(file: dict[str, Any]) -> set[str]:
    vocabulary = file["model"]["vocab"]
    return {piece for piece, _ in vocabulary} if isinstance(vocabulary, list) else set(vocabulary)


def is_lossless(file: dict[str, Any]) -> bool:
    """Whether any text comes back exactly: it is mapped to bytes, nothing is removed, and every byte has a
    token."""
    steps = file["pre_tokenizer"] or {}
    parts = steps.get("pretokenizers", [steps])
    levels = [part for part in parts if part.get("type") == "ByteLevel"]
    others = [part for part in parts if part.get("type") != "ByteLevel"]
    if file["normalizer"] is not None or len(levels) != 1 or levels[0]["add_prefix_space"]:
        return False
    if any(part["type"] not in ("Split", "Digits") or part.get("behavior") == "Removed" for part in others):
        return False
    needed = set(_ALPHABET)
    if file["model"]["type"] == "WordPiece":
        needed |= {f"##{c}" for c in _ALPHABET if c != "#"}
        if not any(part.get("pattern") == {"String": "#"} for part in others):
            return False
    return needed <= _pieces(file) and not file["model"].get("dropout")


# ---- which tokens of a foreign file play the parts of special ones


def note(inner: library.Tokenizer, played: Mapping[str, str]) -> None:
    """Write into the file which of its tokens play the parts of ours: as the special tokens of a template
    that adds none, where `<|end|>` may stand for `</s>`. Other programs read such a file as any other.

    A template that adds some is removed: what stands around a text is the objective's business.
    """
    template = json.loads(inner.to_str())["post_processor"] or {}
    if not played:
        if template.get("type") in ("TemplateProcessing", "BertProcessing", "RobertaProcessing"):
            inner.post_processor = None
        return
    inner.post_processor = processors.TemplateProcessing(
        single="$A",
        pair="$A $B:1",
        special_tokens=[
            {"id": ours, "ids": [inner.token_to_id(theirs)], "tokens": [theirs]}
            for ours, theirs in played.items()
        ],
    )


def noted(inner: library.Tokenizer) -> dict[str, str]:
    """What `note` wrote."""
    template = json.loads(inner.to_str())["post_processor"] or {}
    special = template.get("special_tokens", {}) if template.get("type") == "TemplateProcessing" else {}
    found = {name: token["tokens"][0] for name, token in special.items() if len(token["tokens"]) == 1}
    return {ours: theirs for ours, theirs in found.items() if ours != theirs and ours.startswith("<|")}


# ---- helpers


def affordable(texts: Iterator[str]) -> Iterator[str]:
    """As many of `texts` as fit in memory while learning.

    What learning costs is the different runs between two splits: in English they are words, which repeat; in
    Chinese whole clauses, which do not. Their share is measured on the first `PROBE` characters, and the rest
    is cut off where there would be more than `DIFFERENT` bytes of them.
    """
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    probe: list[str] = []
    read = 0
    for text in texts:
        probe.append(text)
        read += len(text)
        if read >= PROBE:
            break
    runs = {run for text in probe for run, _ in split.pre_tokenize_str(text)}
    different = sum(len(run.encode()) for run in runs)
    yield from probe
    left = (DIFFERENT / max(different, 1) - 1) * read
    for text in texts:
        if left <= 0:
            return
        left -= len(text)
        yield text


def cut(text: str, limit: int) -> Iterator[str]:
    """`text` in stretches of at most `limit` characters, cut where every pattern here splits, as long as
    there is such a place."""
    begin = 0
    while len(text) - begin > limit:
        end = begin + limit
        place = max(_last_space(text, begin, end), _last_line_end(text, begin, end))
        yield text[begin : place if place > begin else end]
        begin = place if place > begin else end
    if begin < len(text):
        yield text[begin:]


def _last_space(text: str, begin: int, end: int) -> int:
    """The last place in the second half where a space follows something that is no white space: a boundary
    before it."""
    place = end
    while (place := text.rfind(" ", begin + (end - begin) // 2, place)) > begin:
        if not text[place - 1].isspace():
            return place
    return -1


def _last_line_end(text: str, begin: int, end: int) -> int:
    """The last place in the second half where something that is no white space follows a line end: a boundary
    between them."""
    place = end
    while (place := text.rfind("\n", begin + (end - begin) // 2, place)) >= begin:
        if not text[place + 1].isspace():
            return place + 1
    return -1


def unmap(piece: str) -> bytes:
    """The bytes that a piece in the byte-level alphabet stands for (Radford et al., 2019)."""
    return bytes(_BYTES[character] for character in piece)


def _byte_table() -> dict[str, int]:
    """Printable bytes of Latin-1 stand for themselves, the rest for the characters from 256 on, in order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    rest = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + place): byte for place, byte in enumerate(rest)}


_BYTES = _byte_table()


def rows_in(path: Path) -> int:
    """Rows of an embedding for the tokens of a `tokenizer.json` as it is: one more than its largest id."""
    inner = library.Tokenizer.from_file(str(path))
    return 1 + max(inner.get_vocab(with_added_tokens=True).values())
