"""What every architecture owes: closed forms, first values, ties, decay, a loss that goes down."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from telos.batch import Asked, Batch, HeadSpec
from telos.config import read
from telos.losses import LossSettings
from telos.models._base import Model, Sizes
from telos.models._initial import initialise
from telos.models.decoder import Decoder
from telos.models.encoder import Encoder
from telos.models.gru import Gru
from tests.models.small import MODELS, asked_all, built, described, drawn, rows_of, sizes

ALL = sorted(MODELS)


def numbers(model: Model, given: Sizes) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model.build(given).parameters())


@st.composite
def decoders(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.sampled_from([1, 2, 3]))
    count = keys * draw(st.integers(1, 3))
    return {
        "width": count * 2 * draw(st.integers(1, 9)),
        "depth": draw(st.integers(1, 4)),
        "heads": {"count": count, "keys": draw(st.sampled_from([0, keys])), "normed": draw(st.booleans())},
        "positions": draw(st.sampled_from(["rotary", "learned"])),
        "norm": draw(st.sampled_from(["rms", "layer"])),
        "feed": {
            "kind": draw(st.sampled_from(["swiglu", "gelu"])),
            "width": draw(st.sampled_from([0, 10])),
        },
        "tied": draw(st.booleans()),
    }


@st.composite
def recurrent(draw: st.DrawFn) -> dict[str, Any]:
    tied = draw(st.booleans())
    return {
        "embedding": draw(st.integers(1, 20)),
        "width": draw(st.integers(1, 20)),
        "depth": draw(st.integers(1, 3)),
        "cell": draw(st.sampled_from(["gru", "lstm"])),
        "projection": 0 if tied else draw(st.sampled_from([0, 7])),
        "tied": tied,
    }


any_sizes = st.builds(
    lambda vocabulary, window, classes: Sizes(
        vocabulary,
        window,
        (
            HeadSpec(name="tokens", outputs=vocabulary),
            *(HeadSpec(name=f"class{n}", outputs=n, kind="classes") for n in classes),
        ),
    ),
    st.integers(1, 99),
    st.integers(1, 99),
    st.lists(st.integers(2, 5), max_size=2, unique=True),
)


@given(table=decoders(), given_sizes=any_sizes)
def test_parameter_count_of_decoders(table: dict[str, Any], given_sizes: Sizes) -> None:
    model = read(Decoder, table)
    assert model.parameter_count(given_sizes) == numbers(model, given_sizes)


@given(table=recurrent(), given_sizes=any_sizes)
def test_parameter_count_of_recurrent_models(table: dict[str, Any], given_sizes: Sizes) -> None:
    model = read(Gru, table)
    assert model.parameter_count(given_sizes) == numbers(model, given_sizes)


def test_the_classic_baseline() -> None:
    """Vocabulary 5000, embedding 300, hidden 1024, and nothing else."""
    model = read(Gru, {"embedding": 300, "width": 1024})
    given_sizes = Sizes(5000, 100, (HeadSpec(name="tokens", outputs=5000),))
    wanted = 5000 * 300 + 3 * 1024 * (300 + 1024 + 2) + 5000 * 1024 + 5000
    assert model.parameter_count(given_sizes) == numbers(model, given_sizes) == wanted


def test_the_published_sizes() -> None:
    """GPT-2 small has 124,439,808 parameters, Llama 2 7B 6,738,415,616."""
    gpt2 = read(
        Decoder,
        {
            "width": 768,
            "depth": 12,
            "heads": 12,
            "positions": "learned",
            "norm": "layer",
            "feed": "gelu",
        },
    )
    assert gpt2.parameter_count(Sizes(50257, 1024, (HeadSpec(name="tokens", outputs=50257),))) == 124_439_808
    llama = read(
        Decoder,
        {"width": 4096, "depth": 32, "heads": 32, "feed": {"kind": "swiglu", "width": 11008}, "tied": False},
    )
    assert (
        llama.parameter_count(Sizes(32000, 4096, (HeadSpec(name="tokens", outputs=32000),))) == 6_738_415_616
    )


@pytest.mark.parametrize("name", ALL)
def test_flops_are_those_that_are_counted(name: str) -> None:
    """Against PyTorch's counter, which sees every product: it counts the hidden half of causal attention
    too, and what is too far away for local blocks."""
    model, network = described(name), built(name)
    length, count = 16, 3
    given_sizes = Sizes(50, length, sizes().heads)
    batch = asked_all(rows_of(*([drawn(length, row)] for row in range(count))))
    if isinstance(model, Gru):  # its kernels hide their products from the counter
        weights = [p for n, p in network.named_parameters() if p.ndim == 2 and n != "embedding.weight"]
        head = 50 * 20 if model.tied else 0
        assert model.flops_per_token(given_sizes) == 6 * (sum(p.numel() for p in weights) + head)
        return
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(batch).sums["tokens"].backward()
    assert isinstance(model, Decoder | Encoder)
    pairs = model.heads.pairs(model.depth, length) // (2 if isinstance(model, Decoder) else 1)
    unseen = 12 * model.width * (model.depth * length**2 - pairs) // length
    bias = 2 * 50 if isinstance(model, Encoder) else 0  # its gradient is summed up as a product
    assert counter.get_total_flops() == count * length * (model.flops_per_token(given_sizes) + unseen + bias)


@pytest.mark.parametrize("depth", [2, 8])
@pytest.mark.parametrize("name", ALL)
def test_first_values_are_those_of_the_table(name: str, depth: int) -> None:
    """Trap 26: the spread of every tensor is what the documentation says, for shallow and deep; no two are
    equal."""
    shape = {"width": 64, "depth": depth} | ({"embedding": 40} if name in ("gru", "lstm") else {})
    network = built(name, **shape)
    table = {
        "decoder": {"outward": 0.02 / math.sqrt(2 * depth), "": 0.02},
        "encoder": {"outward": 0.02 / (1 if name in ("bert", "electra") else math.sqrt(2 * depth)), "": 0.02},
        "gru": {"layers": 64**-0.5 / math.sqrt(3), "": 0.1 / math.sqrt(3)},
    }[MODELS[name]["name"]]
    seen: list[torch.Tensor] = []
    for label, values in network.named_parameters():
        if "norm" in label and label.endswith("weight"):
            assert (values == 1).all(), label
        elif label.endswith("bias") and "bias_" not in label:
            assert (values == 0).all(), label
        else:
            wanted = next(spread for key, spread in table.items() if key in label)
            assert abs(values.std().item() / wanted - 1) < 4 / math.sqrt(2 * values.numel()), label
            assert abs(values.mean().item()) < 4 * wanted / math.sqrt(values.numel()), label
            assert not any(torch.equal(values, other) for other in seen), label
            seen.append(values)


@pytest.mark.parametrize("name", ALL)
def test_first_values_are_a_function_of_seed_and_name(name: str) -> None:
    """Trap 26: not of the order of building, of what else is built, or of the generators' state."""
    torch.manual_seed(1)
    first = built(name)
    torch.manual_seed(2)
    deeper = built(name, depth=3)
    other = built(name, seed=1)
    shallow = dict(first.named_parameters())
    for label, values in deeper.named_parameters():
        if label in shallow and "outward" not in label:  # whose spread is the depth's business
            assert torch.equal(values, shallow[label]), label
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


@pytest.mark.parametrize("name", ["llama", "gpt2", "lstm", "bert", "modern"])
def test_a_tied_head_stays_tied(name: str) -> None:
    """Traps 26 and 29: one storage, one name, one entry: new, initialised, moved from meta, copied,
    loaded."""
    with torch.device("meta"):
        network = described(name).build(sizes())
    network.to_empty(device="cpu")
    initialise(network, 0)
    clone = copy.deepcopy(network)
    clone.load_state_dict(built(name, seed=3).state_dict())
    for candidate in (network, clone):
        head: Any = candidate.heads["tokens"]
        assert head.table is candidate.embedding.weight
        assert [n for n in candidate.state_dict() if "heads.tokens.weight" in n] == []
    assert clone.heads["tokens"].table is not network.embedding.weight
    assert not torch.equal(clone.embedding.weight, network.embedding.weight)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_gradient_of_a_tied_table_is_the_sum_of_both_uses(name: str) -> None:
    """Trap 29: against an untied network with equal weights, in float64."""
    tied, untied = built(name).double(), built(name, tied=False).double()
    untied.load_state_dict(tied.state_dict() | {"heads.tokens.weight": tied.embedding.weight.detach()})
    batch = asked_all(rows_of([drawn(9)], [drawn(5)]))
    for network in (tied, untied):
        network(batch).sums["tokens"].backward()
    both = untied.embedding.weight.grad + untied.heads["tokens"].weight.grad
    torch.testing.assert_close(tied.embedding.weight.grad, both)


UNDECAYED = {
    "llama": ["embedding", "norm"],
    "gpt2": ["embedding", "places", "norm", "bias"],
    "untied": ["embedding", "norm"],
    "local": ["embedding", "norm"],
    "experts": ["embedding", "norm"],
    "experts-gelu": ["embedding", "norm"],
    "bert": ["embedding", "places", "types", "norm", "bias"],
    "electra": ["embedding", "places", "types", "norm", "bias"],
    "modern-narrow": ["embedding", "norm", "bias"],
    "modern": ["embedding", "norm", "bias"],
    "gru": ["embedding", "bias"],
    "lstm": ["embedding", "bias"],
}


@pytest.mark.parametrize("name", ALL)
def test_what_decays(name: str) -> None:
    """Trap 25: matrices decay, tables of embeddings, norms and biases do not. An untied head is a matrix."""
    network = built(name)
    wanted = [n for n, _ in network.named_parameters() if any(key in n for key in UNDECAYED[name])]
    assert list(network.undecayed()) == wanted
    rest = {n for n, _ in network.named_parameters()} - set(wanted)
    kinds = {
        "decoder": (
            "attend.inward.weight",
            "attend.outward.weight",
            "feed.inward.weight",
            "feed.outward.weight",
            "feed.inward",
            "feed.outward",
            "feed.router.weight",
        ),
        "encoder": (
            "attend.inward.weight",
            "attend.outward.weight",
            "feed.inward.weight",
            "feed.outward.weight",
            "heads.tokens.transform.dense.weight",
            "widen.weight",
        ),
        "gru": ("weight_ih_l0", "weight_hh_l0", "projection.weight"),
    }[MODELS[name]["name"]]
    assert rest and all(n.endswith((*kinds, "heads.tokens.weight")) for n in rest)


@pytest.mark.parametrize("name", ALL)
def test_an_untrained_network_knows_nothing(name: str) -> None:
    """Trap 4: its loss is that of a fair die, within 2 %."""
    network = built(name)
    batch = asked_all(rows_of(*([drawn(20, row)] for row in range(30))))
    loss = network(batch).sums["tokens"] / batch.asked["tokens"]
    assert loss.item() == pytest.approx(math.log(50), rel=0.02)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_a_network_learns_a_batch_by_heart(name: str, autocast: bool) -> None:
    network = built(name)
    batch = asked_all(rows_of([drawn(12)], [drawn(7)]))
    rate = 0.01 if isinstance(described(name), Encoder) else 0.03
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(200):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            sums = network(batch).sums["tokens"]
        assert sums.dtype == torch.float32
        optimizer.zero_grad()
        (sums / batch.asked["tokens"]).backward()
        optimizer.step()
    assert sums.item() / batch.asked["tokens"] < 0.1


@pytest.mark.parametrize("name", ALL)
def test_heads_of_two_kinds_and_terms(name: str) -> None:
    """Classes have a head of their own; in training a z-loss is a term beside its own, in evaluation there is
    none."""
    network = described(name).build(sizes(LossSettings(z=0.1), classes=2))
    initialise(network, 0)
    batch = asked_all(rows_of([drawn(6)], [drawn(4)]))
    ask = Asked(
        head="next",
        term="together.next",
        at=torch.tensor([0, 6]),
        target=torch.tensor([0, 1]),
        weight=torch.ones(2),
    )
    batch = Batch(main=batch.main, asks=(*batch.asks, ask))
    assert set(network(batch).sums) == {"tokens", "tokens.z", "together.next"}
    network.eval()
    answer = network(batch)
    assert set(answer.sums) == {"tokens", "together.next"}
    hidden, _ = network.encode(batch.main)
    logits = network.logits(hidden.flatten(0, 1)[ask.at], "next")
    wanted = torch.nn.functional.cross_entropy(logits, ask.target, reduction="sum")
    torch.testing.assert_close(answer.sums["together.next"], wanted)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_without_questions_teaches_nothing(name: str) -> None:
    """Trap 8: loss 0, gradients exactly 0."""
    network = built(name)
    rows = rows_of([drawn(6)], [drawn(4)])
    ask = Asked(
        head="tokens",
        term="tokens",
        at=torch.zeros(8, dtype=torch.int64),
        target=torch.zeros(8, dtype=torch.int64),
        weight=torch.zeros(8),
    )
    loss = network(Batch(main=rows, asks=(ask,))).sums["tokens"]
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in network.parameters() if p.grad is not None)


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=4), name=st.sampled_from(ALL))
def test_padded_rows_are_as_each_alone(lengths: list[int], name: str) -> None:
    """Trap 21: what stands beside a row, and how far it is padded, is nothing to it."""
    network = built(name).eval()
    documents = [drawn(length, row) for row, length in enumerate(lengths)]
    with torch.no_grad():
        together, _ = network.encode(rows_of(*([document] for document in documents)))
        for row, document in enumerate(documents):
            alone, _ = network.encode(rows_of([document]))
            torch.testing.assert_close(together[row, : len(document)], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_dropout_is_for_training(name: str) -> None:
    """Trap 22: off in evaluation, on in training, before an evaluation and after it."""
    changed: dict[str, Any] = {"dropout": 0.5}
    if name in ("gru", "lstm"):
        shares = dict.fromkeys(("words", "input", "between", "output", "weights"), 0.5)
        changed = {"dropout": shares}
    network = built(name, **changed)
    rows = rows_of([drawn(8)])

    def said() -> torch.Tensor:
        return network.encode(rows)[0].detach()

    for _ in range(2):
        network.train()
        assert not torch.equal(said(), said())
        network.eval()
        assert torch.equal(said(), said())


@pytest.mark.parametrize("share", ["words", "input", "between", "output", "weights"])
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_each_dropout_of_a_recurrent_network_does_something(name: str, share: str) -> None:
    network = built(name, dropout={share: 0.5})
    rows = rows_of([drawn(8)])
    assert not torch.equal(network.encode(rows)[0], network.encode(rows)[0])


def test_locked_dropout_drops_the_same_units_everywhere() -> None:
    for locked in (True, False):
        network = built("gru", dropout={"output": 0.5, "locked": locked})
        network.projection = None
        hidden, _ = network.encode(rows_of([drawn(20)]))
        dropped = hidden[0] == 0
        assert 0 < dropped.float().mean() < 1
        assert bool((dropped == dropped[0]).all()) is locked
