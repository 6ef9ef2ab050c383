"""What stands around the turns of a conversation, in tokens, and as a template for other programs.

    chatml    ⊢<|im_start|>user↵Hi<|im_end|>↵<|im_start|>assistant↵Hello<|im_end|>↵
    plain     ⊢User:↵Hi⊣Assistant:↵Hello⊣

A heading and what is said after it are tokenised as one text, as programs do that fill in a template; what
users write can never become one of the special tokens, since `Tokenizer.encode` yields none. Templates are
written here and never rendered: what they say is what `framed` says, which an export proves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.tokenizer import Tokenizer
from telos.turns import ANSWERS, Turn

__all__ = ["FORMATS", "Format", "Framed", "framed", "opening", "template"]

Ids = NDArray[np.int64]


class Format(NamedTuple):
    """What stands around a turn."""

    opening: str
    """A special token; none if empty."""
    heading: str
    """Text with `{role}` or `{Role}` in it."""
    closing: str
    """A special token: what an answer ends with."""
    after: str

    def head(self, role: str) -> str:
        """The heading of a role; nothing over what is nobody's."""
        return self.heading.format(role=role, Role=role.capitalize()) if role else ""


FORMATS = {
    "chatml": Format("<|im_start|>", "{role}\n", "<|im_end|>", "\n"),
    "plain": Format("", "{Role}:\n", "<|end|>", ""),
}


class Framed(NamedTuple):
    """A conversation in tokens, without a begin token."""

    ids: Ids
    """(n,)"""
    answers: NDArray[np.bool_]
    """(n,): which of them the assistant says, the token that ends an answer included."""


def framed(turns: Sequence[Turn], form: Format, tokenizer: Tokenizer) -> Framed:
    """A conversation. What is nobody's counts as an answer, and has no heading."""
    ids, answers = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    end, after = [tokenizer.special(form.closing)], tokenizer.encode(form.after)
    for role, said in turns:
        heading, counts = form.head(role), role in ("", ANSWERS)
        inside, at = tokenizer.encode_offsets(heading + said)
        begin = [tokenizer.special(form.opening)] if form.opening and role else []
        ids += [np.array(begin, np.int64), inside, np.array(end, np.int64), after]
        says = (at[:, 1] > len(heading)) & counts
        answers += [np.zeros(len(begin), np.bool_), says, np.array([counts]), np.zeros(len(after), np.bool_)]
    return Framed(np.concatenate(ids), np.concatenate(answers))


def opening(role: str, form: Format, tokenizer: Tokenizer) -> Ids:
    """What stands before what a role says (n,)."""
    begin = [tokenizer.special(form.opening)] if form.opening else []
    return np.concatenate([np.array(begin, np.int64), tokenizer.encode(form.head(role))])


def template(form: Format, tokenizer: Tokenizer) -> str:
    """The same as programs of others read it: Jinja, for `messages` and `add_generation_prompt`."""
    begin, first, last = (
        _literal(tokenizer.text_of(name) if name else "") for name in ("begin", form.opening, form.closing)
    )
    role = "message['role'] | capitalize" if "{Role}" in form.heading else "message['role']"
    rest = _literal(form.heading.partition("}")[2])
    answer = _literal(form.head(ANSWERS))
    turn = f"{first} + ({role}) + {rest} + (message['content'] | trim) + {last} + {_literal(form.after)}"
    return (
        f"{{{{ {begin} }}}}{{% for message in messages %}}{{{{ {turn} }}}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{{{{ {first} + {answer} }}}}{{% endif %}}"
    )


def _literal(text: str) -> str:
    """A string as Jinja writes it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
