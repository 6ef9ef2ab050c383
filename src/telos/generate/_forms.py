"""Forms of classical Chinese poetry: how many verses of how many characters, and where they are divided.

    五绝  wujue   ○○○○○，○○○○○。       a couplet is a line; two lines
    五律  wulü    ○○○○○，○○○○○。       four lines
    七绝  qijue   ○○○○○○○，○○○○○○○。   two lines
    七律  qilü    ○○○○○○○，○○○○○○○。   four lines

Tones, parallelism and rhyme make such a poem too, and are not looked at here.
"""

import re
from typing import NamedTuple

from telos.errors import ConfigError
from telos.generate._settings import FormName
from telos.words import HAN

__all__ = ["FORMS", "Form", "check_form", "form_pattern"]


class Form(NamedTuple):
    """A form by its numbers."""

    name: str
    characters: int
    """Of a verse."""
    verses: int


FORMS: dict[FormName, Form] = {
    "wujue": Form("五绝", 5, 4),
    "wulü": Form("五律", 5, 8),
    "qijue": Form("七绝", 7, 4),
    "qilü": Form("七律", 7, 8),
}


def form_pattern(form: FormName) -> str:
    """The regular expression of whole poems in a form."""
    shape = FORMS[form]
    verse = f"[{HAN}]{{{shape.characters}}}"
    return "\n".join([f"{verse}，{verse}。"] * (shape.verses // 2))


def check_form(text: str, form: FormName) -> list[str]:
    """What keeps a text from being in a form, in words; nothing if it is. A line end after the last line does
    not count. Neither tone nor rhyme is checked.

    Raises:
        ConfigError: there is no such form.
    """
    if form not in FORMS:
        raise ConfigError(f"form = {form!r}: there are {', '.join(FORMS)}.")
    shape = FORMS[form]
    lines = text.removesuffix("\n").split("\n")
    faults = [fault for number, line in enumerate(lines, 1) for fault in _faults(line, number, shape)]
    if len(lines) != shape.verses // 2:
        faults.append(f"{len(lines)} lines: a {shape.name} has {shape.verses // 2}, of two verses each")
    return faults


def _faults(line: str, number: int, shape: Form) -> list[str]:
    verses = re.fullmatch("([^，。]*)，([^，。]*)。", line)
    if not verses:
        return [f"line {number}: {line!r} is not two verses that are written …，…。"]
    found = []
    for verse in verses.groups():
        others = re.sub(f"[{HAN}]", "", verse)
        if others:
            found.append(f"line {number}: {others[0]!r} in {verse!r} is no Chinese character")
        elif len(verse) != shape.characters:
            found.append(f"line {number}: {verse!r} has {len(verse)} characters, not {shape.characters}")
    return found
