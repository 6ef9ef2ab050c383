"""Vocabularies: text to token ids and back, by the `tokenizers` library; this is the contract around it.

| kind | what a token is | comes back exactly |
|---|---|---|
| `bpe` | byte pairs merged by frequency (Sennrich et al., 2016; on bytes: Radford et al., 2019) | any text |
| `wordpiece` | longest match; `##` goes on a word (Schuster and Nakajima, 2012); on bytes | any text |
| `unigram` | the likeliest pieces under a unigram model (Kudo, 2018), on bytes | any text |
| `byte` | a byte of UTF-8 | any text |
| `character` | a code point of the training text | text without other characters |
| `word` | what stands between white space, and a line end (as in WikiText) | known words, less white space |

Special tokens follow the model's own vocabulary and are no part of it, so no text becomes one, whatever it
says: the text `<|end|>` is encoded like any other. Nothing is normalised here; that is cleaning's business,
before the bytes are counted.

Long texts are encoded in chunks of at most `CHUNK` characters, so that one endless line costs neither time
nor memory beyond its length. A chunk ends before a space or after a line end, where the pattern always
splits, so ids are the same as without; only where `CHUNK` characters hold neither (a line of ten million
dots) is a chunk cut anywhere, always at the same place.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import tokenizers as library
from numpy.typing import NDArray
from tokenizers import processors

from telos import encoding, switches
from telos.errors import ConfigError, DataError
from telos.vocabulary import (
    LEARN,
    LEAST,
    SPECIALS,
    UNKNOWN,
    TokenizerSettings,
    cut,
    is_lossless,
    kind_of,
    note,
    noted,
    unmap,
)
from telos.words import Segment, starts

__all__ = ["Encoded", "Stream", "Tokenizer", "TokenizerSettings", "check_size", "train_tokenizer"]

CHUNK = 1 << 16
"""Characters that are encoded at once, at most."""
TOGETHER = 1 << 20
"""Characters that are given to the library in one call, at most."""
Ids = NDArray[np.int64]


class Encoded(NamedTuple):
    """Tokens of a text, and which of them begin a word and a sentence: three vectors of one length."""

    ids: Ids
    word_start: NDArray[np.bool_]
    sentence_start: NDArray[np.bool_]


class Stream:
    """Text from tokens one at a time: what is returned is never
    half a character, and adds up to `decode` of all ids."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._glue = b""
        self._waiting: list[int] = []
        self._said = ""

    def add(self, id: int) -> str:
        """The text that this token completes; empty where a
        character is not whole yet, and for special tokens."""
        tokenizer = self._tokenizer
        if int(id) in tokenizer.special_ids:
            return ""
        if tokenizer._pieces is None:
            return self._add_foreign(int(id))
        piece = self._glue + tokenizer.token_bytes(id)
        self._glue = tokenizer._glue
        return self._decoder.decode(piece)

    def end(self) -> str:
        """What was held back and is text after all. A character
        that was cut short is left out, as `decode` does."""
        if self._tokenizer._pieces is not None or not self._waiting:
            return ""
        text = self._tokenizer._decode_foreign(self._waiting)
        rest, self._waiting, self._said = text[len(self._said) :], [], ""
        return rest

    def _add_foreign(self, id: int) -> str:
        """Decode from the last clean place on and say what is new, holding back an unfinished character."""
        self._waiting.append(id)
        text = self._tokenizer._decode_foreign(self._waiting)
        if text.endswith("\ufffd") and len(text) - len(self._said) <= 4:
            return ""
        new, self._said = text[len(self._said) :], text
        if len(self._waiting) > 64 and not text.endswith("\ufffd"):
            self._waiting = self._waiting[-8:]  # enough to know whether a space precedes the next word
            self._said = self._tokenizer._decode_foreign(self._waiting)
        return new


@final
class Tokenizer:
    """A vocabulary. Wraps one `tokenizers.Tokenizer`; equal content, equal `hash`."""

    def __init__(
        self, inner: library.Tokenizer, specials: Sequence[str] = (), played: Mapping[str, str] | None = None
    ) -> None:
        """`played` names the tokens of the file that play the parts of ours: {"<|end|>": "</s>"}."""
        inner.no_truncation()
        inner.no_padding()
        self._played = {**noted(inner), **{k: v for k, v in (played or {}).items() if k != v}}
        tokens = dict.fromkeys(self._played.get(s, s) for s in (*SPECIALS, *specials))
        inner.add_special_tokens([library.AddedToken(s, special=True, normalized=False) for s in tokens])
        note(inner, self._played)
        inner.encode_special_tokens = True  # text that looks like a special token stays text
        self._inner = inner
        self._json: dict[str, Any] = json.loads(inner.to_str())
        added = [token for token in self._json["added_tokens"] if token["special"]]
        self.special_ids: frozenset[int] = frozenset(token["id"] for token in added)
        self._special_text = _any_of(token["content"] for token in added)
        vocabulary = inner.get_vocab(with_added_tokens=True)
        self.pad, self.begin, self.end, self.mask, self.separate = (
            vocabulary[self._played.get(s, s)] for s in SPECIALS
        )
        self.size: int = 1 + max(vocabulary.values())
        """Rows of the embedding: every id is smaller."""
        self.kind: str = kind_of(self._json)
        self.lossless: bool = is_lossless(self._json)
        """Whether `decode(encode(text)) == text` for every text."""
        self._glue = b" " if self.kind == "word" else b""
        self._seen = 0

    def __reduce__(self) -> Any:
        return _from_text, (self._inner.to_str(),)

    def __len__(self) -> int:
        return self.size

    # ---- text to ids

    def encode(self, text: str) -> Ids:
        """Token ids (n,) of `text`; never a special one.

        Raises:
            DataError: the text holds a lone surrogate, which is no character.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """`encode` of each, on all processors; many, the fast way where the vocabulary has one
        (`telos.encoding`)."""
        short = 0 if self.kind == "foreign" else CHUNK
        chunks = [[text] if 0 < len(text) <= short else list(self._chunks(text)) for text in texts]
        parts = iter(self._encode_chunks([chunk for several in chunks for chunk in several]))
        return [_joined([next(parts) for _ in several]) for several in chunks]

    def encoded_by(self, texts: Sequence[str] = ()) -> str:
        """What encodes many texts: `tokenizers`, `fastokens` or `tables`. A fast way is compared with
        `tokenizers` the first time, on `texts` among others; from then on it is taken for few, too."""
        self._seen = max(self._seen, encoding.WORTH)
        way = self._way(texts)
        return "tokenizers" if way is None else way.name

    def _way(self, texts: Sequence[str]) -> encoding.Way | None:
        if not switches.on("encoding") or not encoding.has_fast_form(self._json, self.kind):
            return None
        return encoding.way(self._json, self.kind, self.hash, self._encode_plainly, texts)

    def _worthwhile(self, chunks: Sequence[str]) -> encoding.Way | None:
        """The fast way, once there is so much to encode that it is worth the comparison."""
        self._seen += sum(map(len, chunks))
        return self._way(chunks) if self._seen >= encoding.WORTH else None

    def _encode_chunks(self, chunks: Sequence[str]) -> list[Ids]:
        way = self._worthwhile(chunks)
        found: list[Ids] = []
        for few in encoding.groups(chunks, TOGETHER):
            ids = None if way is None else self._encode_fast(way, few)
            if ids is None:
                way, ids = None, self._encode_plainly(few)
            found += ids
        return found

    def _encode_fast(self, way: encoding.Way, chunks: Sequence[str]) -> list[Ids] | None:
        """Ids, or `None` where the way fails, which is then never taken again."""
        try:
            return way.encode(chunks)
        except (UnicodeEncodeError, TypeError) as error:
            raise DataError(_surrogate(chunks)) from error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic of a library in Rust is no `Exception`
            encoding.give_up(self.hash)
            return None

    def _encode_plainly(self, chunks: Sequence[str]) -> list[Ids]:
        return [_ids(each.ids) for each in self._encodings(chunks, fast=True)]

    def _encodings(self, chunks: Sequence[str], fast: bool) -> Iterator[library.Encoding]:
        """The library's encodings, which take a hundred bytes per token: a few chunks at a time, so that they
        never add up."""
        encode = self._inner.encode_batch_fast if fast else self._inner.encode_batch
        for few in encoding.groups(chunks, TOGETHER):
            try:
                yield from encode(few, add_special_tokens=False)
            except (UnicodeEncodeError, TypeError) as error:
                raise DataError(_surrogate(few)) from error

    def encode_words(self, text: str, segment: Segment | None = None) -> Encoded:
        """`encode`, and which tokens begin a word and a sentence of the text.

        A word is a run of letters and digits, one Chinese character (or a word by `segment`) or one mark of
        punctuation, with the space before it. Words that share a token are one: it is the first that begins.
        """
        ids, at = self.encode_offsets(text)
        words, sentences = starts(text, segment)
        word = _begin(at, words)
        return Encoded(ids, word, _begin(at, sentences) & word)

    def encode_offsets(self, text: str) -> tuple[Ids, Ids]:
        """Ids (n,), and for each token where its text begins and ends in `text`, in characters (n, 2)."""
        chunks = list(self._chunks(text))
        if self._lengths is not None and self._worthwhile(chunks) is not None:
            found = _joined(self._encode_chunks(chunks))
            return found, encoding.spans(self._lengths[found], text)
        ids, at, before = [_ids([])], [np.zeros((0, 2), np.int64)], 0
        for chunk, encoded in zip(chunks, self._encodings(chunks, fast=False), strict=True):
            ids.append(_ids(encoded.ids))
            at.append(np.array(encoded.offsets, dtype=np.int64).reshape(-1, 2) + before)
            before += len(chunk)
        return np.concatenate(ids), np.concatenate(at)

    def unknown_in(self, text: str) -> tuple[int, int]:
        """What of a text the vocabulary does not hold: how many tokens, and of how many bytes. The unknown
        token's own name in the text, as in WikiText, is held."""
        ids, at = self.encode_offsets(text)
        runs = (text[begin:end] for begin, end in at[ids == self.unknown].tolist())
        name = self._json["model"].get("unk_token")
        sizes = [len(run.encode()) for run in runs if run != name]
        return len(sizes), sum(sizes)

    def _chunks(self, text: str) -> Iterator[str]:
        if self.kind != "foreign":
            yield from cut(text, CHUNK)
            return
        begin = 0  # a foreign model may hold its special tokens as ordinary pieces: never show it one whole
        for found in self._special_text.finditer(text):
            yield from cut(text[begin : found.start() + 1], TOGETHER)
            begin = found.start() + 1
        yield from cut(text[begin:], TOGETHER)

    # ---- ids to text

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, special ones left out. A character that the last ids begin but do not finish
        is left out."""
        kept = [int(i) for i in ids if int(i) not in self.special_ids]
        if self._pieces is None:
            return self._decode_foreign(kept)
        return codecs.getincrementaldecoder("utf-8")("replace").decode(
            self._glue.join(map(self.token_bytes, kept))
        )

    def stream(self) -> Stream:
        """A fresh decoder for tokens that come one at a time."""
        return Stream(self)

    def token_bytes(self, id: int) -> bytes:
        """The bytes of text that a token stands for: a special token's are its name's.

        Raises:
            DataError: no token has this id.
        """
        text = self._inner.id_to_token(int(id)) if 0 <= id < self.size else None
        if text is None:
            raise DataError(f"token {id} is not in the vocabulary: ids are 0 … {self.size - 1}.")
        if int(id) in self.special_ids:
            return text.encode()
        if self._pieces is None:
            return self._inner.decode([int(id)], skip_special_tokens=False).encode()
        return self._pieces[int(id)]

    def _decode_foreign(self, ids: Sequence[int]) -> str:
        return self._inner.decode(list(ids), skip_special_tokens=True)

    @cached_property
    def _pieces(self) -> dict[int, bytes] | None:
        """The bytes of every ordinary token, or `None` where
        only the library knows how to put tokens together."""
        vocabulary = self._inner.get_vocab(with_added_tokens=True).items()
        ordinary = [(text, id) for text, id in vocabulary if id not in self.special_ids]
        if "ByteLevel" in json.dumps(self._json["decoder"]):
            prefix = self._json["model"].get("continuing_subword_prefix") or ""
            return {id: unmap(text.removeprefix(prefix)) for text, id in ordinary}
        if self.kind in UNKNOWN:
            shown = {"<|unknown|>": "\ufffd"}
            return {id: shown.get(text, text).encode() for text, id in ordinary}
        return None

    @cached_property
    def _lengths(self) -> Ids | None:
        """Bytes of text that each id stands for, where ids alone tell where tokens stand."""
        if not self.lossless or self._pieces is None:
            return None
        lengths = np.zeros(self.size, np.int64)
        lengths[list(self._pieces)] = [len(piece) for piece in self._pieces.values()]
        return lengths

    # ---- special tokens, identity, files

    def special(self, name: str) -> int:
        """The id of a special token: `special("mask")` and `special("<|mask|>")` are the same.

        Raises:
            ConfigError: the vocabulary has no such special token.
        """
        id = self._inner.token_to_id(self.text_of(name))
        if id is None or not self.has_special(name):
            names = ", ".join(sorted(str(self._inner.id_to_token(i)) for i in self.special_ids))
            raise ConfigError(f"the vocabulary has no special token {_literal(name)!r}; it has {names}.")
        return id

    def has_special(self, name: str) -> bool:
        """Whether the vocabulary has a special token of that name."""
        return self._inner.token_to_id(self.text_of(name)) in self.special_ids

    def text_of(self, name: str) -> str:
        """How the vocabulary's file writes a special token: `<|end|>`, or what plays its part there."""
        return self._played.get(_literal(name), _literal(name))

    @cached_property
    def hash(self) -> str:
        """Identifies the vocabulary: 32 hexadecimal digits over all that decides ids."""
        text = json.dumps(self._json, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @cached_property
    def unknown(self) -> int | None:
        """The id that stands for what the vocabulary does not hold, where it has one."""
        model = self._json["model"]
        if model["type"] == "Unigram":
            place: int | None = model.get("unk_id")
            return place
        name = model.get("unk_token")
        return None if name is None else self._inner.token_to_id(name)

    def extends(self, other: "Tokenizer") -> bool:
        """Whether every token of another vocabulary has the same id here."""
        mine, theirs = (each._inner.get_vocab(with_added_tokens=True) for each in (self, other))
        return bool(theirs.items() <= mine.items())

    def save(self, path: Path) -> None:
        """Write the canonical `tokenizer.json`, which other programs read too."""
        path.write_text(self._inner.to_str(pretty=True), encoding="utf-8", newline="\n")

    def for_others(self, before: Sequence[str], after: Sequence[str]) -> str:
        """The file for programs that are to put special tokens around a text by themselves: those of these
        names before and after it."""
        inner = library.Tokenizer.from_str(self._inner.to_str())
        first, last = [self.text_of(name) for name in before], [self.text_of(name) for name in after]
        template = [*first, "$A", *last]
        inner.post_processor = processors.TemplateProcessing(
            single=template,
            pair=[*template, "$B:1", *(f"{token}:1" for token in last)],
            special_tokens=[(token, inner.token_to_id(token)) for token in dict.fromkeys(first + last)],
        )
        text: str = inner.to_str(pretty=True)
        return text

    @staticmethod
    def load(
        path: Path, specials: Sequence[str] = (), played: Mapping[str, str] | None = None
    ) -> "Tokenizer":
        """A vocabulary from a `tokenizer.json`, from here or elsewhere; special tokens that it lacks are
        added at its end.

        `played` names those tokens of the file that play the parts of ours: {"begin": "<s>"}.

        Raises:
            DataError: there is no such file, or it is not a `tokenizer.json`; or a token that is to play a
                part is not in it.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: the tokenizer cannot be read: {error}") from None
        try:
            inner = library.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise DataError(f"{path}: not a tokenizer.json of the `tokenizers` library: {error}") from None
        parts = {_literal(name): token for name, token in (played or {}).items()}
        for name, token in parts.items():
            if inner.token_to_id(token) is None:
                raise DataError(f"{path}: {token!r}, which is to play the part of {name}, is not in it.")
        return Tokenizer(inner, [_literal(name) for name in specials], parts)


def train_tokenizer(
    settings: TokenizerSettings, texts: Iterator[str], specials: Sequence[str] = ()
) -> Tokenizer:
    """A vocabulary learned from `texts`: the same texts, the same file, byte for byte.

    It may be smaller than `settings.size` where the texts do not hold enough to fill it; see
    `Tokenizer.size`.

    Raises:
        ConfigError: the size asked for does not hold the least that this kind needs.
    """
    literal = [_literal(name) for name in specials]
    if settings.path is not None:
        return Tokenizer.load(settings.path, literal, settings.special)
    check_size(settings, specials)
    every = _every_special(specials)
    chunks = (chunk for text in texts for chunk in cut(text, CHUNK))
    size = max(0, settings.size - len(every))
    return Tokenizer(LEARN[settings.kind](settings, chunks, size, every), literal)


def check_size(settings: TokenizerSettings, specials: Sequence[str] = ()) -> None:
    """Whether the size asked for can be, which is known before any text is.

    Raises:
        ConfigError: it does not hold the least that this kind needs.
    """
    least, extra = LEAST.get(settings.kind, 0), len(_every_special(specials))
    unlimited = settings.kind == "word" and settings.size == 0
    if settings.path is not None or settings.kind not in LEAST or unlimited:
        return
    if settings.size < least + extra:
        needs = f"{least} for what every {settings.kind} vocabulary holds and {extra} special ones"
        raise ConfigError(f"tokenizer.size = {settings.size}: must be at least {least + extra}: {needs}.")


# ---- helpers


def _begin(at: Ids, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens (n, 2) begin at one of `places`, or after it where only what no token holds, such as
    blanks, lies between."""
    until = np.maximum.accumulate(at[:, 1]) if len(at) else at[:, 1]
    before = np.concatenate([np.zeros(min(1, len(at)), np.int64), until[:-1]])
    found: NDArray[np.bool_] = np.searchsorted(places, before) < np.searchsorted(
        places, at[:, 0], side="right"
    )
    return found


def _ids(values: Sequence[int]) -> Ids:
    return np.array(values, dtype=np.int64)


def _joined(parts: Sequence[Ids]) -> Ids:
    return parts[0] if len(parts) == 1 else np.concatenate([_ids([]), *parts])


def _every_special(specials: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((*SPECIALS, *(_literal(name) for name in specials))))


def _literal(name: str) -> str:
    return name if name.startswith("<") else f"<|{name}|>"


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True) if len(text) > 1)
    )


def _surrogate(texts: Sequence[str]) -> str:
    for text in texts:
        if found := re.search(r"[\ud800-\udfff]", text):
            what = f"U+{ord(found.group()):04X} at character {found.start()}"
            return (
                f"the text holds a lone surrogate, {what}, which is no character: replace it, say by U+FFFD."
            )
    return "the text cannot be encoded as UTF-8."


def _from_text(text: str) -> Tokenizer:
    return Tokenizer(library.Tokenizer.from_str(text))
