"""Texts, and copies of them that are changed in known ways."""

import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path

Change = Callable[[str, random.Random], str]


def poems(folder: Path, part: str = "valid") -> list[str]:
    """Chinese poems, 20 to some hundred characters each, with their punctuation."""
    with lzma.open(folder / "chinese-poetry" / f"{part}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return ["\n".join(json.loads(line)["lines"]) for line in lines]


def collections(folder: Path, size: int = 10) -> list[str]:
    """Documents of `size` Chinese poems each."""
    single = poems(folder)
    return ["\n\n".join(single[at : at + size]) for at in range(0, len(single) - size, size)]


def passages(folder: Path, size: int = 2000) -> list[str]:
    """English passages of `size` characters, cut from books at blanks."""
    with lzma.open(folder / "classic-books-en" / "test.jsonl.xz", "rt", encoding="utf-8") as lines:
        books = [json.loads(line)["text"] for line in lines]
    return [book[at : at + size].strip() for book in books for at in range(0, len(book) - size, size)]


def drawn(count: int, words: int, draw: random.Random) -> list[str]:
    """Texts of made-up words."""
    known = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 7))) for _ in range(5000)]
    return [" ".join(draw.choices(known, k=words)) for _ in range(count)]


def in_capitals(text: str, draw: random.Random) -> str:
    return text.upper()


def with_other_blanks(text: str, draw: random.Random) -> str:
    return "\u3000 " + text.replace("\n", " \r\n\t").replace(" ", "  ") + "\n\n"


def with_other_punctuation(text: str, draw: random.Random) -> str:
    return "«" + text.translate(str.maketrans(",.;:!?，。；：！？—", "...,;;。，，。。。;")) + "…»"


def in_full_width(text: str, draw: random.Random) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def decomposed(text: str, draw: random.Random) -> str:
    """With accents that are characters of their own."""
    return text.replace("e", "e\u0301").replace("o", "ö")


SAME: dict[str, Change] = {
    "exact": lambda text, draw: text,
    "case": in_capitals,
    "white space": with_other_blanks,
    "punctuation": with_other_punctuation,
    "width": in_full_width,
    "accents": decomposed,
}
"""Changes that leave every word as it is."""


def overlapping(share: float) -> Change:
    """A copy that has `share` of the words in common, as one stretch; the rest is of other words."""

    def change(text: str, draw: random.Random) -> str:
        words, blank = _split(text)
        keep = round(share * len(words))
        at = draw.randint(0, len(words) - keep)
        before, after = ([_another(w, draw) for w in part] for part in (words[:at], words[at + keep :]))
        return blank.join([*before, *words[at : at + keep], *after])

    return change


def scattered(share: float) -> Change:
    """A copy in which each word is another one with a chance of 1 − `share`."""

    def change(text: str, draw: random.Random) -> str:
        words, blank = _split(text)
        return blank.join(word if draw.random() < share else _another(word, draw) for word in words)

    return change


def _split(text: str) -> tuple[list[str], str]:
    return (text.split(" "), " ") if " " in text else (list(text), "")


def _another(word: str, draw: random.Random) -> str:
    return "".join(_letter(c, draw) if c.isalnum() else c for c in word)


def _letter(character: str, draw: random.Random) -> str:
    return chr(draw.randint(0x4E00, 0x9FA5) if ord(character) > 0x2E80 else draw.randint(0x61, 0x7A))
