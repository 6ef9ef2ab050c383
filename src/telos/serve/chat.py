"""Chat: messages become the one text that a model goes on from, by a template that lies beside the model.

A template is `chat_template.jinja` in the run's folder, as Hugging Face writes it: it gets `messages` and
`add_generation_prompt`. It came with a model, perhaps from somebody else, so it is code that nobody trusts:
it runs in Jinja's sandbox, which lets it change nothing and reach nothing but its own values, and what it
makes is limited in length and time.

What it writes is text. A token's name in it, such as `<|end|>`, is encoded like any other text, so that no
message can put in a special token; the begin token is put there by the model's objective.
"""

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, final

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from telos.errors import ConfigError
from telos.serve.refusals import Refused

__all__ = ["FILE", "Template", "template_of"]

FILE = "chat_template.jinja"
LONGEST = 1 << 20
"""Characters of a template, and of what it makes."""
SECONDS = 1.0


class _TooMuch(Exception):
    """Of time, or of text."""


def _limited(pieces: Iterable[str]) -> str:
    """The pieces as one text."""
    said, size = [], 0
    for piece in pieces:
        said.append(piece)
        size += len(piece)
        if size > LONGEST:
            raise _TooMuch
    return "".join(said)


class _Code(CodeGenerator):
    """Writes `a ~ b` so that it is limited as all texts are."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also, no single operation makes much of little, which no time limit could stop."""

    code_generator_class = _Code
    concat = staticmethod(_limited)
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Sums and products of numbers, and short sums of texts and lists."""
        numbers = all(isinstance(value, int | float) and abs(value) <= LONGEST for value in (left, right))
        short = operator == "+" and all(
            isinstance(v, str | list) and len(v) <= LONGEST for v in (left, right)
        )
        if not short and not (numbers and operator != "**"):
            raise TemplateError(f"{operator} is not for these")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Not the methods that fill texts up."""
        return attr not in _FILLING and super().is_safe_attribute(obj, attr, value)


_FILLING = ("center", "expandtabs", "format", "format_map", "indent", "join", "ljust", "replace", "rjust",
            "translate", "wordwrap", "zfill")  # fmt: skip
"""Methods and filters that can make a long text of a short one."""


@final
class Template:
    """A chat template that has been read.

    Raises:
        ConfigError: it is no template.
    """

    def __init__(self, text: str, source: str) -> None:
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, autoescape=False)
        environment.globals.clear()
        environment.globals.update(range=_range, raise_exception=_raise, namespace=Namespace)
        environment.filters = {name: f for name, f in environment.filters.items() if name not in _FILLING}
        environment.filters["join"] = _join
        try:
            self._template = environment.from_string(text[: LONGEST + 1])
        except (TemplateError, RecursionError) as error:
            raise ConfigError(f"{source}: not a chat template: {error}") from None

    def render(self, messages: Iterable[Mapping[str, str]]) -> str:
        """The text of a conversation, up to where the model's turn begins.

        Raises:
            Refused: the template does not take these messages, or makes too much of them.
        """
        try:
            with _Watch(SECONDS):
                return _limited(self._template.generate(messages=list(messages), **_SAID))
        except _TooMuch:
            raise Refused(
                400, "messages: the chat template makes too much of them.", param="messages"
            ) from None
        except Exception as error:  # whatever a template may do wrong
            what = f": {error}" if isinstance(error, TemplateError) else ""
            message = f"messages: the chat template does not take them{what}"
            raise Refused(400, message[:500], param="messages") from None


def template_of(folder: Path) -> Template | None:
    """The run's chat template, if it has one.

    Raises:
        ConfigError: it cannot be read, or is no template.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the chat template cannot be read: {error}") from None
    if len(text) > LONGEST:
        raise ConfigError(f"{path}: more than {LONGEST} characters are no chat template.")
    return Template(text, str(path))


_SAID: dict[str, Any] = {"add_generation_prompt": True, "bos_token": "", "eos_token": ""}
"""What templates ask for beside the messages. Special tokens are not written: see above."""


def _range(*bounds: int) -> range:
    """`range`, but for short ones only: the time bounds what a loop costs, and not what a list does."""
    found = range(*bounds)
    if len(found) > 10_000:
        raise TemplateError("range: too long")
    return found


def _join(values: Iterable[Any], between: str = "") -> str:
    """Jinja's filter, limited."""
    return _limited(text for i, value in enumerate(values) for text in ((between if i else ""), str(value)))


def _raise(message: str) -> None:
    """What templates call when they refuse messages."""
    raise TemplateError(str(message)[:300])


class _Watch:
    """Gives a template up after some time, however it spends it: each line that it executes looks at the
    clock. Only the thread that renders is watched."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._look)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _look(self, frame: FrameType, what: str, argument: Any) -> Any:
        if time.monotonic() > self._until:
            raise _TooMuch
        return self._look
