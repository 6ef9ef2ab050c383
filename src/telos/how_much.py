"""How much text a model wants, and what a text is worth when it is read again, by published scaling laws.

A law gives the loss, in nats per token, of N parameters after D tokens that are all new:

    L(N, D) = E + A / N^α + B / D^β                      (Hoffmann et al., 2022, approach 3)

With a fixed amount of computation, C = 6 N D, the loss is least where α A / N^α = β B / D^β. Text that is
read again is worth less. With U tokens of text read R + 1 times, and N parameters where the law would have
M = min(N, the best size for U tokens), S = N / M − 1 (Muennighoff et al., 2023, equations 5 and 6):

    D' = U + U · R* · (1 − exp(−R / R*))        R* = 15.39
    N' = M + M · S* · (1 − exp(−S / S*))        S* = 5.31
    L  = E + A / N'^α + B / D'^β

Everything here is arithmetic on numbers: nothing is read, nothing is said in words. Tokens and parameters are
floats, since both may be more than are counted one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

__all__ = [
    "EPOCHS",
    "FITTED_PARAMETERS",
    "FITTED_TOKENS",
    "LAST",
    "NEARLY_NEW",
    "PER_PARAMETER",
    "PUBLISHED",
    "REFITTED",
    "REPEATED",
    "Advice",
    "Answer",
    "Epoch",
    "Law",
    "Suited",
    "Trust",
    "answer",
    "epochs_for",
    "loss_of",
    "next_pass",
    "novels",
    "trust",
    "worth",
]

Advice = Literal["enough", "repeat", "fading", "short"]
"""What to do about a text: one pass gives the model all it wants; a few passes do, nearly as good as new;
many do, each worth less than the one before; or no number of passes does."""

Trust = Literal["fitted", "beyond", "broken"]
"""How far to believe a law: sizes are within what it was fitted to, or beyond it, or so far beyond that the
loss it expects is higher than that of guessing."""

PER_PARAMETER = 20.0
"""Tokens per parameter, the rule of thumb that follows from table 3 of Hoffmann et al. (2022)."""
NEARLY_NEW = 4
"""Passes up to which a text that is read again is nearly as good as new text (Muennighoff et al., 2023)."""
LAST = 16
"""Passes after which one more is worth about a third of new text: R + 1 with R near R*."""
EPOCHS = (1, 2, 4, 8, 16)
NOVEL_WORDS, NOVEL_CHARACTERS = 90_000, 200_000
"""What is taken for a novel here: of words between spaces, or of Chinese characters. A convention."""


class Law(NamedTuple):
    """Constants of L(N, D) = E + A / N^α + B / D^β, in nats per token."""

    source: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats per token of so many parameters after so many tokens, all new."""
        return float(self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta)

    def tokens(self, parameters: float) -> float:
        """How many tokens a model is best trained on, if computation is what is scarce."""
        ratio = self.beta * self.b / (self.alpha * self.a)
        return float((ratio * parameters**self.alpha) ** (1 / self.beta))

    def parameters(self, tokens: float) -> float:
        """How large a model is best trained on so many tokens: the inverse of `tokens`."""
        ratio = self.alpha * self.a / (self.beta * self.b)
        return float((ratio * tokens**self.beta) ** (1 / self.alpha))


PUBLISHED = Law("Hoffmann et al. (2022)", e=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28)
"""As published: the fit had stopped too early, and its constants contradict the paper's other two approaches.
Here for comparison only."""
REFITTED = Law("Besiroglu et al. (2024)", e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658)
"""Fitted anew to the same runs (Besiroglu et al., 2024, table 1)."""
REPEATED = Law(
    "Muennighoff et al. (2023)",
    e=math.exp(0.6254804),
    a=math.exp(6.255414),
    b=math.exp(7.3049974),
    alpha=0.3526596,
    beta=0.3526596,
)
"""Fitted together with R* and S* to runs on up to 900 billion tokens (appendix A)."""
FITTED_TOKENS, FITTED_PARAMETERS = 100e6, (7e6, 9e9)
"""The smallest text and the models of the runs that the law of repeated text was fitted to."""
FADING = 15.387756
"""R*: passes beyond the first after which one more is worth 1/e of new text."""
EXCESS = 5.309743
"""S*: the same of parameters beyond those that suit the text."""


def worth(tokens: float, epochs: float) -> float:
    """How many new tokens a text is worth that is read `epochs` times. Below one pass: what is read of it."""
    if epochs <= 1:
        return tokens * epochs
    return tokens * (1 + FADING * -math.expm1(-(epochs - 1) / FADING))


def next_pass(epochs: float) -> float:
    """What one more token is worth after `epochs` passes, as a share of a new one."""
    return math.exp(-max(0.0, epochs - 1) / FADING)


def epochs_for(tokens: float, wanted: float) -> float:
    """How often a text has to be read to be worth `wanted` new tokens: the inverse of `worth`; infinity where
    no number of passes does it."""
    if wanted <= tokens:
        return wanted / tokens
    share = (wanted / tokens - 1) / FADING
    return math.inf if share >= 1 else 1 - FADING * math.log1p(-share)


def loss_of(parameters: float, tokens: float, epochs: float) -> float:
    """The loss that the law of repeated text expects, in nats per token of its own vocabulary."""
    suited = min(parameters, REPEATED.parameters(tokens))
    too_many = parameters / suited - 1
    effective = suited * (1 + EXCESS * -math.expm1(-too_many / EXCESS))
    return REPEATED.loss(effective, worth(tokens, epochs))


def trust(parameters: float, tokens: float, vocabulary: int) -> Trust:
    """How far the law of repeated text can be believed for these sizes. Who guesses among all tokens of a
    vocabulary has a loss of ln(vocabulary), and no training ends above that."""
    if loss_of(parameters, tokens, 1) > math.log(vocabulary):
        return "broken"
    low, high = FITTED_PARAMETERS
    return "fitted" if tokens >= FITTED_TOKENS and low <= parameters <= high else "beyond"


def novels(words: float, characters: float) -> float:
    """How many novels a text is as long as, of `words` between spaces and of Chinese characters."""
    return words / NOVEL_WORDS + characters / NOVEL_CHARACTERS


class Epoch(NamedTuple):
    """What so many passes over a text are expected to bring."""

    epochs: int
    read: float
    """Tokens read in all."""
    worth: float
    """As many new tokens."""
    next_pass: float
    """What one more token is worth then, as a share of a new one."""
    loss: float
    """Nats per token."""
    gain: float
    """How much lower that is than after one pass."""
    loss_if_new: float
    """With as many tokens that are all new."""


class Suited(NamedTuple):
    """The size of a model that suits the text when it is read so often."""

    epochs: int
    parameters: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How much text there is, how much the model wants, and what follows."""

    parameters: int
    tokens: int
    wanted: float
    """Tokens that the model is best trained on, by the refitted law."""
    wanted_by_rule: float
    """The same at 20 tokens per parameter."""
    share: float
    """Of what is wanted, how much there is."""
    advice: Advice
    epochs: int
    """How often to read the text."""
    short: float
    """How many times as much text would be needed, were it read `epochs` times; 1 where there is enough."""
    trust: Trust
    """How far to believe the losses below, and the rest with them."""
    passes: tuple[Epoch, ...]
    suited: tuple[Suited, ...]

    def table(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            **asdict(self),
            "passes": [each._asdict() for each in self.passes],
            "suited": [each._asdict() for each in self.suited],
        }


def answer(parameters: int, tokens: int, vocabulary: int, epochs: Sequence[int] = EPOCHS) -> Answer:
    """How often a text of `tokens`, out of so large a vocabulary, is best read by a model of `parameters`.

    It is read until it is worth what the model wants by the refitted law, and no more than `LAST` times. All
    three must be at least 1.
    """
    assert min(parameters, tokens, vocabulary) >= 1, (parameters, tokens, vocabulary)
    wanted = REFITTED.tokens(parameters)
    needed = epochs_for(tokens, wanted)
    chosen = LAST if needed > LAST else max(1, math.ceil(needed))
    return Answer(
        parameters=parameters,
        tokens=tokens,
        wanted=wanted,
        wanted_by_rule=PER_PARAMETER * parameters,
        share=tokens / wanted,
        advice=_advice(needed),
        epochs=chosen,
        short=max(1.0, wanted / worth(tokens, chosen)),
        trust=trust(parameters, tokens, vocabulary),
        passes=tuple(_pass(parameters, tokens, each) for each in epochs),
        suited=tuple(Suited(n, REFITTED.parameters(worth(tokens, n))) for n in (1, NEARLY_NEW, LAST)),
    )


def _advice(needed: float) -> Advice:
    if needed <= 1:
        return "enough"
    return "repeat" if needed <= NEARLY_NEW else "fading" if needed <= LAST else "short"


def _pass(parameters: int, tokens: int, epochs: int) -> Epoch:
    loss = loss_of(parameters, tokens, epochs)
    return Epoch(
        epochs=epochs,
        read=float(tokens * epochs),
        worth=worth(tokens, epochs),
        next_pass=next_pass(epochs),
        loss=loss,
        gain=loss_of(parameters, tokens, 1) - loss,
        loss_if_new=loss_of(parameters, tokens * epochs, 1),
    )
