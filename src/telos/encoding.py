"""Faster ways from text to ids than the `tokenizers` library's, taken only where the ids are the same.

| vocabulary | the fast way | a package more |
|---|---|---|
| `bpe`; byte-level BPE of elsewhere, split by one pattern | fastokens | `telos-lm[fast]` |
| `byte`, `character` | a table over bytes, or over code points | no |
| `word` | a dictionary of words | no |

All others (`unigram`, `wordpiece`, what normalises, what has tokens that match in text) are left to
`tokenizers`. A fast way is told nothing of special tokens, so that no text can become one. Before it is
used, once per vocabulary and process, it encodes a probe, and the ids are compared: scripts, digits, white
space, code, joined emoji, names of special tokens, long runs, code points drawn from all planes, tokens of
the vocabulary itself, and some of the text at hand. Where one id differs, or anything goes wrong then or
later, `tokenizers` encodes, as it does without.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.vocabulary import SPECIALS, UNKNOWN, unmap

__all__ = [
    "WORTH",
    "Encode",
    "Way",
    "give_up",
    "groups",
    "has_fast_form",
    "probe",
    "spans",
    "splits_by_one_pattern",
    "way",
]

WORTH = 1 << 20
"""Characters that a vocabulary encodes the plain way before a fast one is made and compared: that takes a
fifth of a second."""
SAMPLED = 1500
"""Tokens of the vocabulary in the probe, at most."""
OWN = 1 << 14
"""Characters of the text at hand in the probe, at most."""
Ids = NDArray[np.int64]
Encode = Callable[[Sequence[str]], list[Ids]]
"""Texts to ids: for each text a vector (n,). Lone surrogates raise a `UnicodeEncodeError` or `TypeError`."""

_BLANK = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""White space of Unicode, which is `\\s` in a `tokenizer.json`; Python's adds U+001C to U+001F."""
_WORD = re.compile(f"[^{_BLANK}]+")
_SEPARATOR = re.compile("[\x1c-\x1f]")


class Way(NamedTuple):
    """A way of encoding, and what it is called."""

    name: str
    encode: Encode


_found: dict[str, Way | None] = {}
"""By the hash of the vocabulary: the way that proved the same, or `None`."""


def way(file: Mapping[str, Any], kind: str, hash: str, plain: Encode, texts: Sequence[str]) -> Way | None:
    """The fast way of the vocabulary with this file, if there is one and it gives the ids that `plain` gives;
    compared the first time, then remembered. `texts`: some that are to be encoded."""
    if hash not in _found:
        _found[hash] = _compared(file, kind, plain, texts)
    return _found[hash]


def give_up(hash: str) -> None:
    """The fast way of this vocabulary failed: never again in this process."""
    _found[hash] = None


def _compared(file: Mapping[str, Any], kind: str, plain: Encode, texts: Sequence[str]) -> Way | None:
    given = probe(file, texts)
    try:
        made = _make(file, kind)
        if made is None:
            return None
        wanted, got = plain(given), made.encode(given)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic of a library in Rust is no `Exception`
        return None
    same = len(got) == len(wanted) and all(map(np.array_equal, got, wanted))
    return made if same else None


def _make(file: Mapping[str, Any], kind: str) -> Way | None:
    """The fast way for such a vocabulary, unproved."""
    if splits_by_one_pattern(file):
        return _fastokens(file)
    makers: dict[str, Callable[[Mapping[str, Any]], Encode]] = {
        "byte": _bytes,
        "character": _characters,
        "word": _words,
    }
    return Way("tables", makers[kind](file)) if kind in makers else None


# ---- the ways


def _fastokens(file: Mapping[str, Any]) -> Way | None:
    try:
        import fastokens
    except ImportError:
        return None
    bare = {**file, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    inner = fastokens.Tokenizer.from_json_str(json.dumps(bare))

    def encode(texts: Sequence[str]) -> list[Ids]:
        raw, ends = inner.encode_batch_flat(list(texts))
        ids = np.frombuffer(raw, np.dtype("<u4")).astype(np.int64)
        return _parted(ids, np.frombuffer(ends, np.dtype("<u8")))

    return Way("fastokens", encode)


def _ends(texts: Sequence[Sized]) -> Ids:
    """Where each of several texts ends in all of them together, 0 first (n + 1,)."""
    return np.cumsum([0, *map(len, texts)], dtype=np.int64)


def _parted(ids: Ids, ends: NDArray[Any]) -> list[Ids]:
    """The ids of many texts, as those of each: many short texts cost little more than a long one."""
    return [ids[begin:end] for begin, end in pairwise(ends.tolist())]


def _bytes(file: Mapping[str, Any]) -> Encode:
    table = np.zeros(256, np.int64)
    for piece, id in file["model"]["vocab"].items():
        table[ord(unmap(piece))] = id

    def encode(texts: Sequence[str]) -> list[Ids]:
        raw = [text.encode() for text in texts]
        return _parted(table[np.frombuffer(b"".join(raw), np.uint8)], _ends(raw))

    return encode


def _characters(file: Mapping[str, Any]) -> Encode:
    vocabulary: dict[str, int] = file["model"]["vocab"]
    known = {ord(piece): id for piece, id in vocabulary.items() if len(piece) == 1}
    beyond = 1 + max(known, default=0)
    table = np.full(beyond + 1, vocabulary[UNKNOWN["character"]], np.int64)
    table[list(known)] = list(known.values())

    def encode(texts: Sequence[str]) -> list[Ids]:
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.dtype("<u4"))
        return _parted(table[np.minimum(codes, beyond)], _ends(texts))

    return encode


class _Known(dict[str, int]):
    """Words and their ids; any other word has the unknown token's."""

    def __missing__(self, word: str) -> int:
        return self[UNKNOWN["word"]]


def _words(file: Mapping[str, Any]) -> Encode:
    known = _Known(file["model"]["vocab"])
    line_end = known["\n"]

    def encode(texts: Sequence[str]) -> list[Ids]:
        found = []
        for text in texts:
            text.encode()  # refuses lone surrogates
            ids: list[int] = []
            split = _WORD.findall if _SEPARATOR.search(text) else str.split
            for line in text.split("\n"):
                ids += map(known.__getitem__, split(line))
                ids.append(line_end)
            found.append(np.array(ids[:-1], dtype=np.int64))
        return found

    return encode


# ---- which vocabularies have one


def has_fast_form(file: Mapping[str, Any], kind: str) -> bool:
    """Whether a fast way may be tried, by the vocabulary's form alone."""
    return kind in ("byte", "character", "word") or splits_by_one_pattern(file)


def splits_by_one_pattern(file: Mapping[str, Any]) -> bool:
    """Whether it is byte-level BPE whose text is split by one regular expression and not changed before: the
    form that accelerators are made for. Others they take, and get wrong without an error."""
    model, steps = file["model"], file["pre_tokenizer"] or {}
    plain = not any(
        model.get(name)
        for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    )
    if model["type"] != "BPE" or not model["merges"] or not plain or file["normalizer"] is not None:
        return False
    if not all(token["special"] for token in file["added_tokens"]):
        return False
    parts = steps.get("pretokenizers", [steps])
    if not parts or parts[-1].get("type") != "ByteLevel" or parts[-1]["add_prefix_space"]:
        return False
    if len(parts) == 1:
        return bool(parts[0].get("use_regex", True))
    split = parts[0]
    once = len(parts) == 2 and split["type"] == "Split" and "Regex" in split["pattern"]
    isolated = once and split["behavior"] == "Isolated" and not split["invert"]
    return bool(isolated and not parts[-1].get("use_regex", True))


# ---- texts in groups, and where tokens stand


def groups(texts: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    """A few texts at a time: `most` characters together, or one text."""
    begin = 0
    while begin < len(texts):
        end, size = begin, 0
        while end < len(texts) and (end == begin or size + len(texts[end]) <= most):
            size, end = size + len(texts[end]), end + 1
        yield texts[begin:end]
        begin = end


def spans(lengths: Ids, text: str) -> Ids:
    """Where the tokens of `text` begin and end, given how many bytes each holds (n,): in characters (n, 2),
    all of those that a token holds some of."""
    begins = (np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80
    character = np.cumsum(begins) - 1
    ends = np.cumsum(lengths)
    assert len(character) == (ends[-1] if len(ends) else 0), "these are lengths of another text"
    return np.stack([character[ends - lengths], character[ends - 1] + 1], axis=1)


# ---- the probe

_WRITTEN = (
    "",
    " ",
    "\n",
    "It's we'LL they'RE I'd 'S'T x'y ’tis; e.g. 3.14 (100%) #tag @name a_b C++ ... --- ??!",
    "0 1 12 123 1234 12345 1,234,567.89 ٣٤٥ १२३ ½ ² Ⅷ ０１２ 2026-11-25T10:00:00Z 0x1F 1e-9",
    "a  b   c\t\td \t e\u00a0f\u3000g\u2009h\u200bi\ufeffj\u0085k\u2028l\u2029m\x0bn\x0co\x1cp\x1fq\x00r",
    "  x\n\n  y\r\n\r\n\tz \n \n\r\r \t\n  \n end  ",
    "def f(x: int) -> str:\n    return f'{x!r}'  # no\n\n\nif (a&&b||!c) { x[i++] += \"\\n\"; } // </tag>\n",
    "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。《》「」、；：？！……——",
    "ＡＢＣ　１２３\n中文English混排3个",
    "日本語のテキスト、カタカナ ｶﾅ 한국어 텍스트 ᄒ ᅡ ᆫ العَرَبِيَّة",
    "हिन्दी में ภาษาไทย Ελληνικά русский עברית ქართული አማርኛ",
    "é e\u0301 ñ n\u0303 Å Å ﬁ ǅ ß ẞ İ ı Straße naïve ÀÉÎ ʼn ª º ⅷ ⓐ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇨🇳🇩🇪 ❤️ 1️⃣ a👩b 👩\u200d \u200d\u200d \ufe0f",
    "▁ Ġ Ċ ĠĠ ## ##x <unk> <s></s> [CLS][MASK] <0xE4> <|endoftext|><|im_start|>user\n",
)
"""Texts in which ways of splitting differ, where they do."""
_RUNS = ("a", " ", "\n", "\t", ".", "1", "月", "，", "'s", "\r\n", "é", "👍", "aB", " 。")


def probe(file: Mapping[str, Any], texts: Sequence[str]) -> list[str]:
    """What both ways encode: always the same for the same vocabulary and texts."""
    draw = np.random.default_rng(0)
    names = [token["content"] for token in file["added_tokens"]]
    specials = [*names, "".join(names), *(f"a{name}b {name}\n" for name in (*names, *SPECIALS))]
    runs = [run * count for run in _RUNS for count in (2, 3, 40, 301)]
    return [*_WRITTEN, *specials[:400], *runs, *_drawn(draw), *_tokens(file, draw), *_own(texts, draw)]


def _drawn(draw: np.random.Generator) -> list[str]:
    """Code points of several ranges in any order, with blanks and signs between."""
    ranges = ((0x20, 0x7F), (0x20, 0x250), (0x250, 0x3000), (0x3000, 0xA000), (0xA000, 0xD800))
    planes = ((0xE000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000), (9, 48), (0x20, 0xD800))
    found = []
    for low, high in (*ranges, *planes):
        codes = draw.integers(low, high, (8, 60))
        blanks = draw.random(codes.shape) < 0.15
        codes[blanks] = draw.choice([0x20, 0x20, 0x0A, 0x27, 0x2E, 0x61, 0x4E00, 0x31], int(blanks.sum()))
        found += ["".join(map(chr, row)) for row in codes.tolist()]
    return found


def _tokens(file: Mapping[str, Any], draw: np.random.Generator) -> list[str]:
    """Some of the vocabulary's own tokens, each alone and several in a row."""
    vocabulary = file["model"]["vocab"]
    pieces = list(vocabulary) if isinstance(vocabulary, dict) else [piece for piece, _ in vocabulary]
    picked = draw.permutation(len(pieces))[:SAMPLED].tolist()
    mapped = "ByteLevel" in json.dumps(file["pre_tokenizer"])
    raw = [_unmapped(pieces[i]) if mapped else pieces[i].encode() for i in picked]
    shown = [each.decode("utf-8", "ignore") for each in raw]
    joined = [b"".join(raw[i : i + 7]).decode("utf-8", "ignore") for i in range(0, len(raw), 7)]
    return [*shown[: SAMPLED // 3], *joined]


def _unmapped(piece: str) -> bytes:
    try:
        return unmap(piece)
    except KeyError:  # a piece of elsewhere that is no bytes
        return piece.encode()


def _own(texts: Sequence[str], draw: np.random.Generator) -> list[str]:
    """Beginnings of some of the texts at hand."""
    picked = draw.permutation(len(texts))[:32].tolist()
    return [texts[i][: OWN // max(1, len(picked))] for i in picked]
