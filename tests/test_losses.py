"""The loss against a plain float64 formula: values, gradients, padding, types."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from telos import losses
from telos.batch import Soft
from telos.losses import LossSettings, cross_entropy, linear_cross_entropy, linear_logits

PLAIN = LossSettings()


def oracle(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    row_weight: Tensor,
    settings: LossSettings,
    negative: bool = False,
) -> tuple[Tensor, Tensor]:
    """The formula as it is written, row by row, in float64."""
    logits = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    if settings.soft_cap:
        logits = settings.soft_cap * torch.tanh(logits / settings.soft_cap)
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    rows = []
    for row, (count, log) in enumerate(zip(row_weight.double(), logs, strict=True)):
        truth = target[row].double() if target.ndim == 2 else torch.zeros(len(log)).double()
        if target.ndim == 1:
            truth[target[row]] = 1
        if negative:
            rows.append(-count * (1 - log[target[row]].exp()).log())
            continue
        truth = (1 - settings.smoothing) * truth + settings.smoothing * truth.sum() / len(log)
        rows.append(-count * (truth * log).sum())
    z = settings.z * (row_weight.double() * logits.exp().sum(1).log() ** 2).sum()
    return torch.stack(rows).sum() if rows else logits.sum() * 0, z


def case(
    rows: int, width: int, size: int, *, soft: bool = False, bias: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=draw)
    weight = torch.randn(size, width, generator=draw)
    target = torch.randint(0, size, (rows,), generator=draw)
    if soft:
        target = torch.rand(rows, size, generator=draw)
    counts = torch.rand(rows, generator=draw) + 0.5
    return hidden, weight, torch.randn(size, generator=draw) if bias else None, target, counts


def both_ways(
    given: tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor],
    settings: LossSettings,
    negative: bool = False,
    z_share: float = 0.5,
) -> tuple[list[Tensor], list[Tensor]]:
    """Sums and gradients of entropy + z_share · z: ours, and the oracle's."""
    found = []
    for ours in (True, False):
        leaves = [t.clone().requires_grad_() if t is not None else None for t in given[:3]]
        if ours:
            sums = linear_cross_entropy(
                *leaves, *given[3:], settings=settings, negative=negative, training=True
            )
            entropy, z = sums.entropy, sums.z
        else:
            entropy, z = oracle(*leaves, *given[3:], settings, negative)
        parts = [entropy] if not settings.z else [entropy, z]
        (parts[0] + z_share * parts[1] if settings.z else parts[0]).backward()
        found.append(
            [p.detach().double() for p in parts] + [t.grad.double() for t in leaves if t is not None]
        )
    return found[0], found[1]


KINDS = [
    pytest.param(LossSettings(), {}, id="hard"),
    pytest.param(LossSettings(smoothing=0.1), {}, id="smoothed"),
    pytest.param(LossSettings(), {"soft": True}, id="soft"),
    pytest.param(LossSettings(smoothing=0.2), {"soft": True}, id="soft-smoothed"),
    pytest.param(LossSettings(soft_cap=3.0), {}, id="capped"),
    pytest.param(LossSettings(z=0.01), {}, id="z"),
    pytest.param(LossSettings(z=0.01, smoothing=0.1, soft_cap=5.0), {"soft": True}, id="all"),
    pytest.param(LossSettings(), {"bias": False}, id="unbiased"),
]


@pytest.mark.parametrize(("settings", "shape"), KINDS)
@pytest.mark.parametrize(("chunk", "block"), [(1, 1), (3, 2), (100, 3), (100, 100)])
def test_sums_and_gradients_are_those_of_the_formula(
    settings: LossSettings, shape: dict[str, bool], chunk: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 19: smoothing and z-loss, whole and in chunks; z is a term of its own, with its own factor."""
    monkeypatch.setattr(losses, "CHUNK", chunk * 11)
    monkeypatch.setattr(losses, "BLOCK", block * 11)
    ours, wanted = both_ways(case(7, 5, 11, **shape), settings)
    for mine, true in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine, true, rtol=2e-5, atol=2e-5)


def test_unlikelihood_is_that_of_the_formula() -> None:
    ours, wanted = both_ways(case(7, 5, 11), LossSettings(smoothing=0.1), negative=True)
    for mine, true in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine, true, rtol=2e-5, atol=2e-5)


def test_unlikelihood_stays_finite_where_the_model_is_sure() -> None:
    """log(1 − p) where p rounds to 1: the logits say it all the same."""
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[100.0], [0.0], [0.0]])
    sums = linear_cross_entropy(
        hidden,
        weight,
        None,
        torch.tensor([0]),
        torch.ones(1),
        settings=PLAIN,
        negative=True,
        training=True,
    )
    sums.entropy.backward()
    assert sums.entropy.item() == pytest.approx(100 - math.log(2))
    assert hidden.grad is not None and hidden.grad.item() == pytest.approx(100.0)


@pytest.mark.parametrize("settings", [PLAIN, LossSettings(smoothing=0.1, z=0.1, soft_cap=2.0)])
@pytest.mark.parametrize("kind", ["hard", "soft", "negative"])
def test_gradcheck(settings: LossSettings, kind: str) -> None:
    hidden, weight, bias, target, counts = case(4, 3, 5, soft=kind == "soft")
    leaves = [t.double().requires_grad_() for t in (hidden, weight, bias) if t is not None]

    def sums(*given: Tensor) -> tuple[Tensor, ...]:
        found = linear_cross_entropy(
            *given, target, counts, settings=settings, negative=kind == "negative", training=True
        )
        return tuple(part for part in found if part is not None)

    assert torch.autograd.gradcheck(sums, leaves)


def test_each_term_has_its_own_gradient() -> None:
    hidden, weight, bias, target, counts = case(5, 4, 9)
    settings = LossSettings(z=0.3)
    for term in (0, 1):
        mine, true = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
        found = linear_cross_entropy(mine, weight, bias, target, counts, settings=settings, training=True)
        wanted = oracle(true, weight, bias, target, counts, settings)
        found[term].backward()
        wanted[term].backward()
        torch.testing.assert_close(mine.grad, true.grad, rtol=1e-4, atol=1e-5)


def test_closed_forms() -> None:
    """Trap 19: by hand, in float64. Logits ln 6, ln 3, ln 1 make 0.6, 0.3, 0.1 and log Σ exp = ln 10; the
    first is the target; the place weighs 2, another weighs nothing."""
    logits = torch.tensor([[6.0, 3.0, 1.0]]).double().log()
    weight = torch.eye(3).double()
    for settings, negative, entropy, slope in (
        (PLAIN, False, -math.log(0.6), [-0.4, 0.3, 0.1]),
        (
            LossSettings(smoothing=0.3),
            False,
            -(0.8 * math.log(0.6) + 0.1 * math.log(0.3) + 0.1 * math.log(0.1)),
            [0.6 - 0.8, 0.3 - 0.1, 0.0],
        ),
        (LossSettings(smoothing=0.3), True, -math.log(0.4), [0.6, 0.3 - 0.75, 0.1 - 0.25]),
    ):
        hidden = torch.cat((logits, torch.full((1, 3), math.nan))).requires_grad_()
        sums = linear_cross_entropy(
            hidden,
            weight,
            None,
            torch.tensor([0, 1]),
            torch.tensor([2.0, 0.0]).double(),
            settings=settings.model_copy(update={"z": 0.25}),
            negative=negative,
            training=True,
        )
        assert sums.z is not None
        assert sums.entropy.item() == pytest.approx(2 * entropy, rel=1e-12)
        assert sums.z.item() == pytest.approx(2 * 0.25 * math.log(10) ** 2, rel=1e-12)
        (first,) = torch.autograd.grad(sums.entropy, hidden, retain_graph=True)
        (second,) = torch.autograd.grad(sums.z, hidden)
        wanted = torch.tensor([slope, [0.0] * 3], dtype=torch.float64)
        torch.testing.assert_close(first, 2 * wanted, rtol=1e-12, atol=1e-12)
        likely = torch.tensor([[0.6, 0.3, 0.1], [0.0] * 3], dtype=torch.float64)
        torch.testing.assert_close(second, 2 * 0.25 * 2 * math.log(10) * likely, rtol=1e-12, atol=1e-12)


@given(
    rows=st.integers(0, 6),
    padding=st.integers(0, 5),
    kind=st.sampled_from(["hard", "soft", "negative"]),
    z=st.sampled_from([0.0, 0.01]),
    smoothing=st.sampled_from([0.0, 0.1]),
    garbage=st.sampled_from([0.0, 1e30, math.nan]),
)
def test_padding_changes_nothing(
    rows: int, padding: int, kind: str, z: float, smoothing: float, garbage: float
) -> None:
    """Trap 19: rows of weight 0 change neither sums nor gradients, whatever they hold; nor is any gradient
    theirs."""
    hidden, weight, bias, target, counts = case(rows + padding, 4, 6, soft=kind == "soft")
    counts[rows:] = 0
    hidden[rows:] = garbage
    settings = LossSettings(z=z, smoothing=smoothing)
    found = []
    for end in (rows, rows + padding):
        leaves = [t.clone().requires_grad_() for t in (hidden[:end], weight, bias)]
        sums = linear_cross_entropy(
            *leaves,
            target[:end],
            counts[:end],
            settings=settings,
            negative=kind == "negative",
            training=True,
        )
        (sums.entropy if sums.z is None else sums.entropy + sums.z).backward()
        found.append([sums.entropy.detach(), *(leaf.grad for leaf in leaves)])
    assert (found[1][1][rows:] == 0).all()
    found[1][1] = found[1][1][:rows]
    for alone, padded in zip(*found, strict=True):
        torch.testing.assert_close(padded, alone, rtol=1e-6, atol=1e-6)


def test_nothing_asked_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 8: no rows, or only rows of weight 0, give sums of 0 and gradients of exactly 0, whatever was in
    the memory."""

    def dirty(like: Tensor, *shape: Any, **named: Any) -> Tensor:
        return like.new_full(*shape, math.nan, **named)

    monkeypatch.setattr(Tensor, "new_empty", dirty)
    for rows in (0, 3):
        hidden, weight, bias, target, _ = case(rows, 4, 6)
        leaves = [t.requires_grad_() for t in (hidden, weight, bias) if t is not None]
        sums = linear_cross_entropy(
            *leaves, target, torch.zeros(rows), settings=LossSettings(z=0.1), training=True
        )
        assert sums.entropy.item() == 0 and sums.z is not None and sums.z.item() == 0
        (sums.entropy + sums.z).backward()
        assert all(leaf.grad is not None and (leaf.grad == 0).all() for leaf in leaves)


@pytest.mark.parametrize("size", [65535, 65536, 65537])
def test_large_vocabularies(size: int) -> None:
    """Trap 19: the last class of a vocabulary around 2¹⁶ is asked, in a sum over several chunks."""
    hidden, weight, _, _, counts = case(300, 4, size)
    target = torch.full((300,), size - 1)
    leaf = hidden.clone().requires_grad_()
    settings = LossSettings(z=0.01, smoothing=0.1)
    sums = linear_cross_entropy(leaf, weight, None, target, counts, settings=settings, training=True)
    (sums.entropy + sums.z).backward()
    true = hidden.double().requires_grad_()
    logits = true @ weight.double().T
    logs = torch.log_softmax(logits, 1)
    entropy = -(0.9 * logs[:, -1] + 0.1 * logs.mean(1))
    total = (counts * (entropy + 0.01 * torch.logsumexp(logits, 1) ** 2)).sum()
    total.backward()
    torch.testing.assert_close((sums.entropy + sums.z).double(), total, rtol=1e-6, atol=0)
    assert leaf.grad is not None and true.grad is not None
    rounding = 3e-5  # of a float32 sum of 2¹⁶ products, 2⁸ · 2⁻²³, in whatever order a processor adds them
    assert (leaf.grad - true.grad).norm() <= rounding * true.grad.norm()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("settings", [PLAIN, LossSettings(z=1e-3)])
def test_bfloat16_products_are_summed_in_float32(autocast: bool, settings: LossSettings) -> None:
    """Trap 20: with hidden states and weights that are exact in bfloat16, so that only the logits are
    rounded, the loss is that of the same logits in float64; its type is float32, and that of a gradient its
    tensor's."""
    hidden, weight, _, target, counts = case(600, 32, 500)
    hidden, weight = hidden.bfloat16(), (0.3 * weight).bfloat16()
    rounded = (hidden @ weight.T).double()
    logs = torch.log_softmax(rounded, 1)
    true = -(counts.double() * logs.gather(1, target[:, None]).squeeze(1)).sum()
    slope = (logs.exp() - torch.nn.functional.one_hot(target, 500)) * counts[:, None].double()
    if autocast:
        hidden, weight = hidden.float(), weight.float()
    hidden.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        sums = linear_cross_entropy(hidden, weight, None, target, counts, settings=settings, training=True)
    assert sums.entropy.dtype == torch.float32
    assert sums.z is None or sums.z.dtype == torch.float32
    assert sums.entropy.item() == pytest.approx(true.item(), rel=1e-5)
    sums.entropy.backward()
    for leaf, wanted in (
        (hidden, slope @ weight.detach().double()),
        (weight, slope.T @ hidden.detach().double()),
    ):
        assert leaf.grad is not None and leaf.grad.dtype == leaf.dtype
        error = (leaf.grad.double() - wanted).norm() / wanted.norm()
        assert error < 1e-2, error


def test_the_weights_gradient_is_summed_over_chunks_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 20: 2000 equal rows, one a chunk: a bfloat16 sum would stop growing after 256."""
    monkeypatch.setattr(losses, "CHUNK", 1)
    weight = torch.zeros(2, 1, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        sums = linear_cross_entropy(
            torch.ones(2000, 1),
            weight,
            None,
            torch.zeros(2000, dtype=torch.int64),
            torch.ones(2000),
            settings=PLAIN,
            training=True,
        )
    sums.entropy.backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-1000.0], [1000.0]]))


def test_evaluation_is_plain_cross_entropy() -> None:
    """Trap 3: smoothing and z-loss are training's business; the soft cap is the model's."""
    given = case(6, 4, 9)
    modified = LossSettings(smoothing=0.2, z=0.1, soft_cap=4.0)
    with torch.no_grad():
        sums = linear_cross_entropy(*given, settings=modified, training=False)
    wanted, _ = oracle(*given, LossSettings(soft_cap=4.0))
    assert sums.z is None
    assert not sums.entropy.requires_grad
    torch.testing.assert_close(sums.entropy.double(), wanted, rtol=1e-6, atol=0)


def test_backward_scales_and_repeats() -> None:
    """What is divided by is known only after the forward pass; and a graph that is kept can be walked
    twice."""
    hidden, weight, _, target, counts = case(5, 4, 9)
    leaf = hidden.requires_grad_()
    sums = linear_cross_entropy(leaf, weight, None, target, counts, settings=PLAIN, training=True)
    first, second, tenth = (
        torch.autograd.grad(sums.entropy * factor, leaf, retain_graph=True)[0] for factor in (1, 1, 0.1)
    )
    assert torch.equal(first, second)
    torch.testing.assert_close(tenth, first * 0.1)


@pytest.mark.parametrize(("soft", "shape"), list(product([False, True], [(), (3,), (2, 3)])))
def test_cross_entropy_is_unreduced(soft: bool, shape: tuple[int, ...]) -> None:
    logits = torch.randn(*shape, 7).bfloat16()
    target = torch.softmax(torch.randn(*shape, 7), -1) if soft else torch.randint(0, 7, shape)
    found = cross_entropy(logits, target)
    logs = torch.log_softmax(logits.double(), -1)
    wanted = -(target * logs).sum(-1) if soft else -logs.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    assert found.shape == shape and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


def test_logits_agree_with_the_loss() -> None:
    hidden, weight, bias, target, counts = case(6, 4, 9)
    with torch.autocast("cpu", torch.bfloat16):
        logits = linear_logits(hidden, weight, bias, soft_cap=2.0)
        settings = LossSettings(soft_cap=2.0)
        sums = linear_cross_entropy(hidden, weight, bias, target, counts, settings=settings, training=False)
    assert logits.dtype == torch.float32 and logits.abs().max() <= 2.0
    torch.testing.assert_close(
        (cross_entropy(logits, target) * counts).sum(), sums.entropy, rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
@pytest.mark.parametrize("settings", [PLAIN, LossSettings(z=0.01, soft_cap=3.0)], ids=["plain", "z, capped"])
def test_a_teacher_is_asked_in_chunks_and_the_answer_is_tempered(
    temperature: float, settings: LossSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T² · H(p, softmax(logits / T)) by the plain formula, values and gradients; the z-loss is of the logits
    as they are; p is made for as many places as a chunk has and no more."""
    monkeypatch.setattr(losses, "CHUNK", 3 * 11)
    monkeypatch.setattr(losses, "BLOCK", 2 * 11)
    hidden, weight, bias, truth, counts = (t.double() for t in case(7, 5, 11, soft=True))
    asked: list[int] = []

    def of(rows: slice) -> Tensor:
        asked.append(len(truth[rows]))
        return truth[rows]

    leaves = [t.clone().requires_grad_() for t in (hidden, weight, bias)]
    none = torch.zeros(7, dtype=torch.int64)
    soft = Soft(of=of, temperature=temperature)
    sums = linear_cross_entropy(*leaves, none, counts, settings=settings, soft=soft, training=True)
    assert asked == [3, 3, 1]
    twins = [t.clone().requires_grad_() for t in (hidden, weight, bias)]
    logits = twins[0] @ twins[1].T + twins[2]
    if settings.soft_cap:
        logits = settings.soft_cap * torch.tanh(logits / settings.soft_cap)
    wanted = -(counts * (truth * (logits / temperature).log_softmax(1)).sum(1)).sum() * temperature**2
    z = settings.z * (counts * logits.logsumexp(1) ** 2).sum()
    torch.testing.assert_close(sums.entropy, wanted)
    (sums.entropy + (sums.z if sums.z is not None else 0)).backward()
    (wanted + z).backward()
    for ours, theirs in zip(leaves, twins, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
