"""Conversations as texts: turns of a system, a user and an assistant, with a mark before each.

A conversation goes through preparation as one text, so that it is cleaned, filtered, compared and held out
as texts are. The mark of a role is one of the last characters of Unicode, which are for private use and mean
nothing anywhere; where one stands in a text that comes in, it is taken out (`neutral`). How turns become
tokens, which know of no marks, is in `telos.chat`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from telos.errors import DataError

__all__ = ["ANSWERS", "ROLES", "Turn", "conversation", "has_turns", "joined", "neutral", "parted", "unmarked"]

ROLES = ("system", "user", "assistant")
ANSWERS = "assistant"
MARKS = {role: chr(0x10FFF0 + number) for number, role in enumerate(ROLES)}
_BY_MARK = {mark: role for role, mark in MARKS.items()}
_MARK = re.compile("[" + "".join(MARKS.values()) + "]")
_CALLED = {"human": "user", "gpt": "assistant", "developer": "system", **{role: role for role in ROLES}}
"""Roles by the names that data sets have for them."""


class Turn(NamedTuple):
    """What one of them says."""

    role: str
    """One of `ROLES`; empty for text that is nobody's."""
    text: str


def conversation(messages: Sequence[Mapping[str, Any]], where: str) -> str:
    """Messages of JSON, `{"role": …, "content": …}` or `{"from": …, "value": …}`, as a text.

    Raises:
        DataError: a message has no role that is known here, or no text.
    """
    turns = []
    for message in messages:
        role, text = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if role not in _CALLED:
            raise DataError(
                f"{where}: a message's role is {role!r}; known are {', '.join(_CALLED)}. Leave other "
                "messages out of the file."
            )
        if not isinstance(text, str):
            raise DataError(
                f"{where}: the content of a message of {role!r} is not a string, but {text!r:.60}."
            )
        turns.append(Turn(_CALLED[role], text))
    return joined(turns)


def joined(turns: Iterable[Turn]) -> str:
    """Turns as a text; those without any are left out."""
    return "".join(MARKS[turn.role] + said for turn in turns if (said := neutral(turn.text).strip()))


def neutral(text: str) -> str:
    """A text from elsewhere, which can pass for no conversation."""
    return _MARK.sub("", text) if has_turns(text) else text


def has_turns(text: str) -> bool:
    """Whether a text is a conversation."""
    return not text.isascii() and _MARK.search(text) is not None


def unmarked(text: str) -> str:
    """A text without marks; of a conversation, the turns as paragraphs."""
    if not has_turns(text):
        return text
    return "\n\n".join(part for part in _MARK.split(text) if part.strip())


def parted(text: str, answer: str | None = None) -> list[Turn]:
    """The turns of a conversation; or a text that is a user's, with the assistant's answer; or without either
    the text itself. At least one."""
    if not has_turns(text):
        if answer is None or not answer.strip():
            return [Turn("", text)]
        return [Turn("user", text.strip()), Turn("assistant", answer.strip())]
    first, *rest = _MARK.split(text)
    roles = ["", *(_BY_MARK[mark] for mark in _MARK.findall(text))]
    found = [Turn(role, said.strip()) for role, said in zip(roles, [first, *rest], strict=True)]
    return [turn for turn in found if turn.text] or [Turn("", "")]
