"""The vocabulary in groups, against q(token) = q(group) · q(token | group) as it is written, in float64."""

import math

import pytest
import torch
from torch import Tensor

from telos.batch import Soft
from telos.errors import ConfigError
from telos.grouped import Table, grouped_cross_entropy, grouped_logits, share_multiplied
from telos.losses import LossSettings
from telos.models._heads import GroupedHead

CUTOFFS, V, D = (4, 9), 23, 5
EDGES = ((0, 4), (4, 9), (9, 23))


def table(*, bias: bool = True, kind: torch.dtype = torch.float64, seed: int = 0) -> Table:
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(kind).requires_grad_()

    return Table(some(V, D), some(V) if bias else None, some(2, D), some(2) if bias else None, CUTOFFS)


def q_of(hidden: Tensor, given: Table) -> Tensor:
    """(K, V), by the definition, one token after the other."""
    rows = []
    for x in hidden:
        said = given.weight @ x + (0 if given.bias is None else given.bias)
        sizes = torch.tensor([5.0, 14.0], dtype=x.dtype).log()
        groups = given.groups @ x + sizes + (0 if given.group_bias is None else given.group_bias)
        front = torch.cat((said[:4], groups)).softmax(0)
        parts = [front[:4], *(front[4 + n] * said[a:b].softmax(0) for n, (a, b) in enumerate(EDGES[1:]))]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def asked(rows: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, answers in every group, weights of which one is 0."""
    draw = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, D, generator=draw, dtype=torch.float64).requires_grad_()
    target = torch.arange(rows) * 2 % V
    weight = torch.rand(rows, generator=draw, dtype=torch.float64) + 0.5
    weight[3] = 0
    return hidden, target, weight


def with_gradients(loss: Tensor, *leaves: Tensor | None) -> list[Tensor]:
    given = [leaf for leaf in leaves if leaf is not None]
    return [loss.detach(), *torch.autograd.grad(loss, given, retain_graph=True)]


@pytest.mark.parametrize("bias", [True, False])
def test_sum_and_gradients_are_those_of_the_definition(bias: bool) -> None:
    given = table(bias=bias)
    hidden, target, weight = asked()
    ours = grouped_cross_entropy(hidden, given, target, weight)
    wanted = -(weight * q_of(hidden, given).log().gather(1, target[:, None]).squeeze(1)).sum()
    found = with_gradients(ours, hidden, *given[:4])
    for mine, true in zip(found, with_gradients(wanted, hidden, *given[:4]), strict=True):
        torch.testing.assert_close(mine, true)


def test_distributions_and_unlikelihood_are_those_of_the_definition() -> None:
    given = table()
    hidden, target, weight = asked()
    q = q_of(hidden, given)
    truth = torch.rand(len(hidden), V, dtype=torch.float64)
    tempered = (q.log() / 2).log_softmax(1)
    cases = [
        (grouped_cross_entropy(hidden, given, truth, weight), -(weight * (truth * q.log()).sum(1)).sum()),
        (
            grouped_cross_entropy(hidden, given, target, weight, negative=True),
            -(weight * (1 - q.gather(1, target[:, None]).squeeze(1)).log()).sum(),
        ),
        (
            grouped_cross_entropy(
                hidden, given, target, weight, soft=Soft(of=lambda r: truth[r], temperature=2)
            ),
            -4 * (weight * (truth * tempered).sum(1)).sum(),
        ),
    ]
    for ours, wanted in cases:
        mine, true = (with_gradients(loss, hidden, *given[:4]) for loss in (ours, wanted))
        for one, other in zip(mine, true, strict=True):
            torch.testing.assert_close(one, other)


def test_logits_are_the_logarithms_of_q() -> None:
    given = table()
    hidden, _, _ = asked()
    torch.testing.assert_close(grouped_logits(hidden, given), q_of(hidden, given).log())
    torch.testing.assert_close(
        grouped_logits(hidden.unflatten(0, (3, 4)), given).exp().sum(-1), torch.ones(3, 4).double()
    )


def test_first_values_are_even_over_the_vocabulary() -> None:
    """Trap 4: whatever the group, a token's first probability is 1 / V."""
    nothing = Table(*(torch.zeros(*shape) for shape in ((V, D), (V,), (2, D), (2,))), CUTOFFS)
    said = grouped_logits(torch.zeros(1, D), nothing)
    torch.testing.assert_close(said, torch.full((1, V), -math.log(V)))


def test_no_row_and_groups_that_nobody_asks() -> None:
    given = table()
    none = torch.zeros(0, D, dtype=torch.float64)
    assert grouped_cross_entropy(none, given, torch.zeros(0, dtype=torch.int64), torch.zeros(0)).item() == 0
    hidden, _, weight = asked()
    loss = grouped_cross_entropy(hidden, given, torch.zeros(len(hidden), dtype=torch.int64), weight)
    (slope,) = torch.autograd.grad(loss, given.weight)
    assert slope[:4].abs().min() > 0
    assert not slope[4:].any()


def test_a_head_in_groups_does_not_reach_past_its_vocabulary() -> None:
    with pytest.raises(ConfigError, match=r"loss\.cutoffs: the vocabulary has 9 tokens.*begin at 9"):
        GroupedHead(D, 9, LossSettings(cutoffs=CUTOFFS))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cutoffs": (9, 4)}, "ascend"),
        ({"cutoffs": (4, 4)}, "ascend"),
        ({"cutoffs": (0, 4)}, "greater than or equal to 1"),
        ({"cutoffs": (4,), "smoothing": 0.1}, "smoothing would need them all"),
        ({"cutoffs": (4,), "z": 0.1, "soft_cap": 3.0}, "z and soft_cap would need them all"),
    ],
)
def test_cutoffs_that_make_no_sense_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LossSettings.model_validate(wrong)


def test_what_a_place_multiplies_with() -> None:
    """Frequencies of 1 / rank: by hand, over 3 ids of which the last is a group."""
    assert share_multiplied((), 100) == 1
    assert share_multiplied((2,), 3) == pytest.approx((2 + 1 + math.log(4 / 3) / math.log(4)) / 3)
    assert share_multiplied((4000, 12000), 33278) < 0.25
