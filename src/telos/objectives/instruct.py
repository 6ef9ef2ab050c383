"""Instructions: a conversation is read from left to right, and what the assistant says is asked (Wei et al.,
2022; Ouyang et al., 2022).

    loss = −Σₜ log q(xₜ | x₁ … xₜ₋₁) over the answers' tokens and the end of each / number of these

Hidden: the future. Seen: the past of the same conversation. For `Hi` and `Hello`, in the format `plain`:

    goes in    ⊢ User : ↵ Hi ⊣ Assistant : ↵         Hello
    is asked                               Hello     ⊣

The text is prepared as conversations (`telos.chat`): the shards have in the column of the format whether a
token is an answer's. A text with a target is a question with its answer, one without is an answer to nothing.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import numpy as np

from telos.batch import Ask, Cut, Example, Read, Side
from telos.chat import FORMATS, Format, framed, opening, template
from telos.objectives._base import Objective, Prompt
from telos.objectives._sequence import Ids
from telos.tokenizer import Tokenizer
from telos.turns import ANSWERS, Turn

__all__ = ["Instruct"]


@final
class Instruct(Objective):
    """Answer as an assistant does."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    format: Literal["chatml", "plain"] = "chatml"
    """What stands around a turn: ChatML's two special tokens, `<|im_start|>user↵…<|im_end|>↵`, which a
    vocabulary that has not got them is given; or `User:↵…` and the end token, and so no token that a trained
    model does not know."""

    @property
    def form(self) -> Format:
        """The format itself."""
        return FORMATS[self.format]

    def cut(self, window: int) -> Cut:
        """A conversation is read whole, as far as it fits a row; the first token is the begin token."""
        return Cut(length=window + 1, overlap=1, begin=True, whole=True)

    def specials(self) -> tuple[str, ...]:
        return tuple(token for token in (self.form.opening, self.form.closing) if token.startswith("<|im_"))

    def columns(self) -> tuple[str, ...]:
        return (self.format,)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """All tokens but the last go in; of those that the piece answers for, the assistant's are asked."""
        piece = read[index]
        asked = np.array(piece.columns.get(self.format, np.ones(len(piece), np.bool_)), np.bool_)
        asked[: max(piece.ask_from, 1)] = False
        at = np.flatnonzero(asked) - 1
        return Example(
            main=Side.of(piece.ids[:-1], causal=True),
            asks=(Ask(head="tokens", at=at, target=piece.ids[at + 1], weight=np.ones(len(at), np.float32)),),
            pattern="causal",
            unit=piece.document,
            sample=index,
        )

    def prompt(self, ids: Ids, tokenizer: Tokenizer) -> Prompt:
        """The text is what a user says."""
        closing = [tokenizer.special(self.form.closing)]
        after = tokenizer.encode(self.form.after)
        return self._asked([opening("user", self.form, tokenizer), ids, closing, after], tokenizer)

    def beginning(self, ids: Ids, tokenizer: Tokenizer) -> str:
        """What a user says before the first answer."""
        before = tokenizer.decode(ids).partition(self.form.head(ANSWERS))[0]
        return before.rpartition(self.form.head("user"))[2].strip()

    def chat(self, turns: Sequence[Turn], tokenizer: Tokenizer) -> Prompt:
        """A conversation that the assistant is to go on with, tokenised as in training."""
        return self._asked([framed(turns, self.form, tokenizer).ids], tokenizer)

    def _asked(self, parts: Sequence[Ids | list[int]], tokenizer: Tokenizer) -> Prompt:
        """The assistant's turn, after these tokens."""
        row = np.concatenate([[tokenizer.begin], *parts, opening(ANSWERS, self.form, tokenizer)])
        ends = (tokenizer.special(self.form.closing),)
        return Prompt(main=Side.of(row, causal=True), ends=ends)

    def template(self, tokenizer: Tokenizer) -> str:
        return template(self.form, tokenizer)
