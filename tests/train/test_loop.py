"""One step of training: what is divided by what, what is skipped, what is counted."""

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from telos.batch import Answer, Ask, Batch, Example, Place, Read
from telos.config import read
from telos.data.loader import Step, steps
from telos.errors import ConfigError, TrainingError
from telos.losses import LossSettings
from telos.models._base import Sizes
from telos.models.decoder import Decoder
from telos.models.gru import Gru
from telos.objectives._base import Objective, Partner
from telos.objectives.causal import Causal
from telos.objectives.distil import Distil
from telos.tokenizer import Tokenizer
from telos.train.loop import AVERAGE, Trainer
from tests.train import tiny

PLAIN_SGD = ("optimizer.name=sgd", "optimizer.rate=1.0", "optimizer.momentum=0.0", "optimizer.decay=0.0")
STILL = (*PLAIN_SGD, "schedule.kind=constant", "schedule.warmup=0.0", "compute.clip=0.0")


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.models["main"].named_parameters()}


def exact(trainer: Trainer) -> Trainer:
    """The same trainer in float64, without dropout, whose optimizer moves weights by minus the gradient."""
    for network in trainer.models.values():
        network.double()
    for module in trainer.models["main"].modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    return trainer


def first_step(trainer: Trainer) -> Step:
    source = steps(trainer.plan, trainer.state.place)
    try:
        return next(source)
    finally:
        source.close()


def gradient(trainer: Trainer, step: Step) -> dict[str, Tensor]:
    """What one step of plain gradient descent at rate 1 moves, negated."""
    before = weights(trainer)
    trainer.take(step)
    return {name: before[name] - after for name, after in weights(trainer).items()}


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny.SMALL, "decoder", {**tiny.SMALL["decoder"], "dropout": 0.0})


@pytest.mark.usefixtures("decoder")
def test_a_step_does_not_depend_on_how_it_is_cut(tmp_path: Path) -> None:
    """Trap 1: eight ragged rows as 1 × 8, 2 × 4, 4 × 2 and 8 × 1 give one loss and one gradient.

    And it is the one made by hand: the sum over all rows of −log q, divided by all that was asked.
    """
    losses, gradients = [], []
    for rows in (8, 4, 2, 1):
        log = tiny.Recorder()
        changes = (*STILL, "batch=8", f"compute.micro_batch={rows}")
        trainer = exact(tiny.trainer(tmp_path, *changes, log=log, folder=None))
        start = copy.deepcopy(trainer.models["main"])
        step = first_step(trainer)
        assert len(step.batches) == 8 // rows
        gradients.append(gradient(trainer, step))
        losses.append(trainer._losses()["loss"])
    summed, asked = torch.zeros((), dtype=torch.float64), 0.0
    for batch in step.batches:  # of one row each
        hidden, _ = start.encode(batch.main)
        for ask in batch.asks:
            said = start.logits(hidden.flatten(0, 1)[ask.at]).log_softmax(-1)
            summed = summed - (ask.weight * said.gather(1, ask.target[:, None])[:, 0]).sum()
            asked += float(ask.weight.sum())
    by_hand = torch.autograd.grad(summed / asked, list(start.parameters()))
    assert losses == pytest.approx([float(summed.detach()) / asked] * 4, rel=1e-12)
    for found in gradients:
        for (name, _), expected in zip(start.named_parameters(), by_hand, strict=True):
            assert (found[name] - expected).abs().max() < 1e-10, name


@final
class Asking(Objective):
    """Causal, with weights by the tests' choice: a function of the sample."""

    weight: str = "1"

    def cut(self, window: int) -> Any:
        return Causal().cut(window)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        made = Causal().example(read, index, rng, tokenizer)
        factor = {"1": 1.0, "0": 0.0, "even": 1.0 - index % 2}[self.weight]
        return replace(made, asks=tuple(replace(a, weight=a.weight * np.float32(factor)) for a in made.asks))


def test_a_step_of_which_nothing_is_asked_changes_nothing(tmp_path: Path) -> None:
    """Trap 8: loss and gradient are 0, not 0 / 0; moments stay; the step is counted as skipped, and not as
    bad.
    """
    trainer = tiny.trainer(tmp_path, "budget.steps=3", objective=Asking(weight="0"), folder=None)
    before = weights(trainer)
    trainer.log = log = tiny.Recorder()  # type: ignore[assignment]
    trainer.run()
    assert all(torch.equal(before[name], after) for name, after in weights(trainer).items())
    assert not trainer.optimizer.state and trainer.state.step == 3
    assert trainer.state.counters.skipped == 3 and trainer.state.bad_in_a_row == 0
    assert trainer.state.counters.tokens > 0 and trainer.state.counters.asked == 0
    assert len(log.lines) == 3


@pytest.mark.usefixtures("decoder")
def test_a_micro_batch_of_which_nothing_is_asked_adds_nothing(tmp_path: Path) -> None:
    """Trap 8: inside an accumulation too."""
    found = []
    for rows in (4, 1):
        changes = (*STILL, f"compute.micro_batch={rows}")
        trainer = exact(tiny.trainer(tmp_path, *changes, objective=Asking(weight="even"), folder=None))
        step = next(s for s in some_steps(trainer) if 0 < sum(b.asked["tokens"] for b in s.batches) < 40)
        assert rows == 4 or any(batch.asked["tokens"] == 0 for batch in step.batches)
        found.append(gradient(trainer, step))
    for name, one in found[0].items():
        assert one.isfinite().all() and (one - found[1][name]).abs().max() < 1e-10


def some_steps(trainer: Trainer) -> list[Step]:
    source = steps(trainer.plan, Place())
    try:
        return [next(source) for _ in range(20)]
    finally:
        source.close()


@final
class TwoTerms(Objective):
    """Two terms of very different size, with a denominator of its own for one of them."""

    def cut(self, window: int) -> Any:
        return Causal().cut(window)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        made = Causal().example(read, index, rng, tokenizer)
        (all_of_them,) = made.asks
        one = Ask(
            head="tokens",
            at=all_of_them.at[:1],
            target=all_of_them.target[:1],
            weight=all_of_them.weight[:1],
            term="first",
        )
        return replace(made, asks=(all_of_them, one))

    def coefficient(self, term: str) -> float:
        return 0.25 if term == "first" else 1.0

    def denominators(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        return {**asked, "first": 2 * asked["first"]}


@pytest.mark.usefixtures("decoder")
def test_each_term_has_its_denominator_and_its_coefficient(tmp_path: Path) -> None:
    """Trap 1, with several terms: each sum over the whole step by its own denominator, however it is cut."""
    found, losses = [], []
    for rows in (4, 1):
        changes = (*STILL, f"compute.micro_batch={rows}")
        trainer = exact(tiny.trainer(tmp_path, *changes, objective=TwoTerms(), folder=None))
        main = copy.deepcopy(trainer.models["main"])
        step = first_step(trainer)
        found.append(gradient(trainer, step))
        losses.append(trainer._losses())
    sums: dict[str, Tensor] = {}
    asked: dict[str, float] = {}
    for batch in step.batches:
        for term, value in main(batch).sums.items():
            sums[term] = sums.get(term, 0.0) + value
            asked[term] = asked.get(term, 0.0) + batch.asked[term]
    loss = sums["tokens"] / asked["tokens"] + 0.25 * sums["first"] / (2 * asked["first"])
    expected = torch.autograd.grad(loss, list(main.parameters()))
    for one in found:
        for (name, _), grad in zip(main.named_parameters(), expected, strict=True):
            assert (one[name] - grad).abs().max() < 1e-10
    for logged in losses:
        assert logged["loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
        assert logged["loss.first"] == pytest.approx(
            float(sums["first"].detach()) / (2 * asked["first"]), rel=1e-12
        )


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_logged_loss_is_what_evaluation_would_say(tmp_path: Path, rows: int) -> None:
    """Trap 3: one normalisation for what is logged and what is learned; auxiliary terms are logged apart."""
    objective = Causal()
    sizes = Sizes(tiny.vocabulary().size, 16, objective.heads(tiny.vocabulary().size), LossSettings(z=0.01))
    network = read(Decoder, {"width": 16, "depth": 1, "heads": 2}).build(sizes)
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    trainer = tiny.trainer(tmp_path, *STILL, f"compute.micro_batch={rows}", "batch=6", folder=None)
    trainer.models["main"] = network.double()
    step = first_step(trainer)
    trainer._gradients(step, asked := {"tokens": math.fsum(b.asked["tokens"] for b in step.batches)})
    sums, _ = trainer._gradients(step, asked)
    trainer._tally(sums, asked)
    logged = trainer._losses()
    nats = 0.0
    with network.at_rest():
        for batch in step.batches:
            hidden, _ = network.encode(batch.main)
            said = network.logits(hidden).log_softmax(-1).flatten(0, 1)
            for ask in batch.asks:
                nats -= float((said[ask.at].gather(1, ask.target[:, None])[:, 0] * ask.weight).sum())
    assert logged["loss"] == logged["loss.tokens"] == pytest.approx(nats / asked["tokens"], rel=1e-9)
    assert logged["loss.tokens.z"] > 0


def test_an_untrained_model_knows_nothing(tmp_path: Path) -> None:
    """Trap 4: the first loss is the logarithm of the vocabulary."""
    log = tiny.Recorder()
    tiny.trainer(tmp_path, "budget.steps=1", log=log, folder=None).run()
    assert log.lines[0]["loss"] == pytest.approx(math.log(tiny.vocabulary().size), rel=0.02)


def test_a_tokens_own_prediction_is_asked_of_the_token_before(tmp_path: Path) -> None:
    """Trap 4: one-hot of the true next token has loss 0 at every place asked; of the current token it has
    not.
    """
    trainer = tiny.trainer(tmp_path, folder=None)
    for step in some_steps(trainer)[:5]:
        for batch in step.batches:
            (ask,) = batch.asks
            real = ask.weight > 0
            row, place = ask.at[real] // batch.main.shape[1], ask.at[real] % batch.main.shape[1]
            inside = (place + 1 < batch.main.shape[1]) & (ask.target[real] != tiny.vocabulary().end)
            following = (place + 1).clamp(max=batch.main.shape[1] - 1)
            goes_on = batch.main.segment[row, following] == batch.main.segment[row, place]
            checked = inside & goes_on
            assert torch.equal(batch.main.ids[row, following][checked], ask.target[real][checked])
            assert not torch.equal(batch.main.ids[row, place], ask.target[real])


def steps_of_adamw(trainer: Trainer, number: int) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Weights after each of `number` steps, and the gradient and rate that the optimizer was given."""
    given: list[dict[str, Any]] = []
    before = trainer.optimizer.step

    def step(*args: Any) -> None:
        trained = [p for g in trainer.optimizer.param_groups for p in g["params"]]
        decays = [g["weight_decay"] for g in trainer.optimizer.param_groups for p in g["params"]]
        rate = trainer.optimizer.param_groups[0]["lr"]
        gradients = [None if p.grad is None else p.grad.double().clone() for p in trained]
        given.append({"gradients": gradients, "rate": rate, "decays": decays})
        before(*args)

    trainer.optimizer.step = step  # type: ignore[method-assign]
    found = []
    source = steps(trainer.plan, trainer.state.place)
    for _ in range(number):
        trainer.take(next(source))
        found.append(
            [p.detach().double().clone() for g in trainer.optimizer.param_groups for p in g["params"]]
        )
    source.close()
    return found, given  # type: ignore[return-value]


def adamw_by_hand(start: list[Tensor], given: list[dict[str, Any]]) -> list[list[Tensor]]:
    """AdamW in float64 by its formulas (Loshchilov and Hutter, 2019)."""
    w = [tensor.clone() for tensor in start]
    m, v = [torch.zeros_like(t) for t in w], [torch.zeros_like(t) for t in w]
    after = []
    for t, step in enumerate(given, start=1):
        for k, g in enumerate(step["gradients"]):
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.95 * v[k] + 0.05 * g * g
            mean, square = m[k] / (1 - 0.9**t), v[k] / (1 - 0.95**t)
            w[k] = w[k] - step["rate"] * (step["decays"][k] * w[k] + mean / (square.sqrt() + 1e-8))
        after.append([tensor.clone() for tensor in w])
    return after


@final
class Breaking(Objective):
    """Causal, with one broken step: its loss or its gradient is not finite."""

    kind: str = "loss"
    at: int = 2

    def cut(self, window: int) -> Any:
        return Causal().cut(window)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        return Causal().example(read, index, rng, tokenizer)

    def step(self, models: Mapping[str, nn.Module], batch: Batch, state: Any, seed: int) -> Answer:
        answer = super().step(models, batch, state, seed)
        counted = models["main"].__dict__.setdefault("counted", [0])
        counted[0] += 1
        if counted[0] <= self.at or counted[0] > self.at + (1 if self.kind != "always" else 99):
            return answer
        sums = dict(answer.sums)
        if self.kind == "gradient":  # the loss stays finite: √0 has an infinite slope
            sums["tokens"] = sums["tokens"] + (sums["tokens"] * 0).abs().sqrt()
        else:
            sums["tokens"] = sums["tokens"] * (math.inf if self.kind == "infinite" else math.nan)
        return Answer(sums, answer.state)


def test_adamw_steps_are_those_of_the_formulas_through_a_skip_and_a_resume(tmp_path: Path) -> None:
    """Trap 27: five steps, the third skipped, saved and loaded after the fourth, against float64 by hand."""
    trainer = tiny.trainer(tmp_path, objective=Breaking())
    start = [p.detach().double().clone() for g in trainer.optimizer.param_groups for p in g["params"]]
    found, given = steps_of_adamw(trainer, 4)
    trainer.save()
    again = tiny.trainer(tmp_path, objective=Breaking(at=99))
    assert again.resume() == 4
    more, given_more = steps_of_adamw(again, 1)
    assert len(given) == 3 and len(given_more) == 1, "the skipped step never came to the optimizer"
    expected = adamw_by_hand(start, given + given_more)
    for weights, by_hand in zip([found[0], found[1], found[3], more[0]], expected, strict=True):
        for one, other in zip(weights, by_hand, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert all(torch.equal(a, b) for a, b in zip(found[1], found[2], strict=True))


@pytest.mark.parametrize("kind", ["loss", "infinite", "gradient"])
@pytest.mark.parametrize("rows", [0, 1])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(
    tmp_path: Path, kind: str, rows: int
) -> None:
    """Trap 65: no weight and no moment moves; the step and the place in the data go on."""
    drawn = some_steps(tiny.trainer(tmp_path, f"compute.micro_batch={rows}"))[:5]
    at = sum(len(step.batches) for step in drawn[:2]) + (rows > 0)
    objective = Breaking(kind=kind, at=at)
    trainer = tiny.trainer(tmp_path, f"compute.micro_batch={rows}", objective=objective, folder=None)
    places, moved = [], []
    for step in drawn:
        before = weights(trainer)
        moments = copy.deepcopy(trainer.optimizer.state_dict()["state"])
        trainer.take(step)
        places.append(trainer.state.place == step.place)
        moved.append(any(not torch.equal(before[name], after) for name, after in weights(trainer).items()))
        if not moved[-1]:
            now = trainer.optimizer.state_dict()["state"]
            assert all(torch.equal(now[k][n], moments[k][n]) for k in now for n in now[k])
    assert moved == [True, True, False, True, True] and all(places)
    assert trainer.state.counters.skipped == 1 and trainer.state.step == 5 and trainer.state.bad_in_a_row == 0
    assert all(tensor.isfinite().all() for tensor in weights(trainer).values())


def test_a_run_that_keeps_being_broken_stops_with_advice(tmp_path: Path) -> None:
    """Trap 65: after so many in a row, and the last checkpoint is a healthy one."""
    changes = ("watch.stop_after_bad=4", "watch.checkpoint_every=2", "budget.steps=50")
    trainer = tiny.trainer(
        tmp_path, *changes, objective=Breaking(kind="always", at=4)
    )  # the first is the trial
    with pytest.raises(TrainingError, match=r"4 steps in a row.*train\.optimizer\.rate"):
        trainer.run()
    assert trainer.state.step == 7
    again = tiny.trainer(tmp_path, objective=Causal())
    assert again.resume() == 6
    assert all(tensor.isfinite().all() for tensor in weights(again).values())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[x] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_says_what_to_do(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny.trainer(tmp_path, folder=None)

    def fails(step: Step) -> None:
        raise error

    monkeypatch.setattr(trainer, "take", fails)
    with pytest.raises(
        TrainingError, match=r"Memory ran out.*gradients.*What helps: train\.compute\.micro_batch = 2"
    ):
        trainer.run()


def test_the_gradient_is_shortened_to_the_norm_asked_for(tmp_path: Path) -> None:
    free = exact(tiny.trainer(tmp_path, *STILL, folder=None))
    step = first_step(free)
    long = gradient(free, step)
    norm = torch.stack([g.norm() for g in long.values()]).norm()
    clipped = exact(tiny.trainer(tmp_path, *STILL, "compute.clip=0.05", folder=None))
    short = gradient(clipped, step)
    assert (
        norm > 0.5
        and free._norm == pytest.approx(float(norm))
        and clipped._norm == pytest.approx(float(norm))
    )
    for name, found in short.items():
        torch.testing.assert_close(found, long[name] * (0.05 / norm))
    wide = exact(tiny.trainer(tmp_path, *STILL, "compute.clip=1000.0", folder=None))
    assert all(torch.allclose(found, long[name]) for name, found in gradient(wide, step).items())


def carrying(tmp_path: Path, *changes: str, **rest: Any) -> Trainer:
    documents = [" ".join(tiny.texts(30, seed=k)) for k in range(5)]
    made = tiny.trainer(tmp_path, "loader.carry=true", *changes, model="gru", documents=documents, **rest)
    made.models["main"].model = made.models["main"].model.model_copy(update={"dropout": Gru().dropout})
    return made


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_carried_windows_are_one_long_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    """Trap 28: the losses of the windows of an epoch add up to that of each document as a whole, from zero
    state.
    """
    monkeypatch.setitem(tiny.SMALL, "gru", {"embedding": 12, "width": 16, "cell": cell})
    documents = [" ".join(tiny.texts(4 + 3 * k, seed=k)) for k in range(5)]
    changes = ("loader.carry=true", *STILL, "optimizer.rate=1e-30", "batch=5", "watch.log_every=1000")
    trainer = tiny.trainer(tmp_path, *changes, model="gru", documents=documents, folder=None)
    for model in trainer.models.values():
        model.double()
    network = trainer.models["main"]
    source = steps(trainer.plan, Place())
    cut = 0
    while trainer.state.epochs < 1:
        step = next(source)
        cut += sum(
            1 for b in step.batches for c, s in zip(b.continues, b.samples, strict=True) if s and not c
        )
        trainer.take(step)
        state = trainer._carried[0]
        assert all(part.grad_fn is None and not part.requires_grad for part in state.values())
    source.close()
    nats, tokens = trainer.state.tally["tokens"], trainer.state.asked["tokens"]
    whole, number = 0.0, 0
    vocabulary, longest = tiny.vocabulary(), -(-len(trainer.plan.corpus) // 5) * 16
    runs = 0
    for text in documents:
        ids = np.array([vocabulary.begin, *vocabulary.encode(text), vocabulary.end])
        pieces = -(-(len(ids) - 1) // 16)
        parts = -(-pieces * 16 // longest)
        edges = [part * pieces // parts * 16 for part in range(parts)] + [len(ids) - 1]
        for start, stop in itertools.pairwise(edges):
            runs += 1
            with network.at_rest():
                rows = tiny.rows(ids[start:stop])
                hidden, _ = network.encode(rows)
                said = network.logits(hidden[0]).log_softmax(-1)
            whole -= float(
                said[torch.arange(stop - start), torch.from_numpy(ids[start + 1 : stop + 1])].sum()
            )
            number += stop - start
    assert cut == runs and number == tokens
    assert nats == pytest.approx(whole, rel=1e-9)


def graph_size(answer: Tensor) -> int:
    """Nodes of the graph behind a loss."""
    seen, queue = set(), [answer.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in seen:
            seen.add(node)
            queue += [parent for parent, _ in node.next_functions]
    return len(seen)


def test_the_history_of_carried_state_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 28: the graph of the fiftieth window is as large as that of the second."""
    trainer = carrying(tmp_path, "budget.steps=50", folder=None)
    sizes = []
    before = Trainer._loss

    def loss(self: Trainer, *args: Any) -> Tensor | None:
        found = before(self, *args)
        assert found is not None
        sizes.append(graph_size(found))
        return found

    monkeypatch.setattr(Trainer, "_loss", loss)
    trainer.run()
    assert len(sizes) == 51 and len(set(sizes[2:])) == 1  # the first is the trial


def test_a_broken_step_does_not_leave_its_state_behind(tmp_path: Path) -> None:
    """Traps 28 and 65: what a non-finite window leaves behind is not carried on."""
    trainer = carrying(tmp_path, "budget.steps=6", objective=Breaking(at=3), folder=None)
    trainer.run()
    assert trainer.state.counters.skipped == 1 and trainer.state.step == 6
    assert all(part.isfinite().all() for part in trainer._carried[0].values())


def test_counters_are_exact(tmp_path: Path) -> None:
    """Two epochs: every sample twice, every token and the end of every document asked twice."""
    trainer = tiny.trainer(tmp_path, "budget={epochs=2.0}", folder=None)
    outcome = trainer.run()
    lengths = [len(text.encode()) for text in tiny.texts()]
    counters, state = trainer.state.counters, trainer.state
    assert counters.samples == 2 * len(trainer.plan.corpus)
    assert counters.asked == counters.tokens == 2 * sum(length + 1 for length in lengths)
    assert state.epochs == 2.0 and outcome.step == state.step and outcome.exit_status == 0


def test_ended_tracks_are_not_counted(tmp_path: Path) -> None:
    trainer = carrying(tmp_path, "budget={epochs=1.0}", "batch=4", folder=None)
    trainer.run()
    assert trainer.state.counters.samples == trainer.state.counters.rows == len(trainer.plan.corpus)
    assert trainer.state.counters.tokens == trainer.state.counters.asked


@pytest.mark.parametrize(
    ("budget", "ends"),
    [
        ("{steps=7}", lambda state: state.step == 7),
        ("{tokens=500}", lambda state: 500 <= state.counters.tokens < 500 + 64),
        ("{epochs=0.5}", lambda state: 0.5 <= state.epochs < 0.6),
        ("{steps=7, epochs=100.0, tokens=1000000, minutes=10.0}", lambda state: state.step == 7),
        ("{minutes=0.004}", lambda state: 0.24 <= state.seconds < 2 and state.step > 3),
    ],
)
def test_the_first_budget_that_is_reached_ends_the_run(tmp_path: Path, budget: str, ends: Any) -> None:
    trainer = tiny.trainer(tmp_path, f"budget={budget}", folder=None)
    assert trainer.run().reason == "budget"
    assert ends(trainer.state)


def test_minutes_count_training_over_all_attempts(tmp_path: Path) -> None:
    """Time spent in evaluation is not counted; time of an earlier attempt is."""
    import time

    def slow(network: nn.Module) -> dict[str, float]:
        time.sleep(0.3)
        return {"loss": 1.0}

    trainer = tiny.trainer(tmp_path, "budget.steps=4", "watch.evaluate_every=2", validate=slow)
    trainer.run()
    assert 0 < trainer.state.seconds < 0.3
    again = tiny.trainer(tmp_path, "budget={minutes=1.0}")
    again.resume()
    again.state.seconds = 59.9
    before = again.state.step
    again.run()
    assert again.state.step > before and again.state.seconds >= 60


def with_teacher(tmp_path: Path, role: str) -> Trainer:
    objective = Distil(teacher="a run")
    if role != "frozen":
        object.__setattr__(objective, "partners", lambda: {"teacher": Partner(role=role)})  # type: ignore[arg-type]
    teacher = tiny.network("decoder", objective, 16, seed=5)
    return tiny.trainer(tmp_path, objective=objective, partners={"teacher": teacher}, model="decoder")


def test_a_frozen_teacher_gives_targets_and_stays_as_it_is(tmp_path: Path) -> None:
    """Partners are walked by the loop and the checkpoint, not by the optimizer unless they are trained."""
    trainer = with_teacher(tmp_path, "frozen")
    before = tiny.digest(trainer.models["teacher"])
    log = tiny.Recorder()
    trainer.log = log  # type: ignore[assignment]
    trainer.run()
    assert tiny.digest(trainer.models["teacher"]) == before and not trainer.models["teacher"].training
    assert all(p.grad is None and not p.requires_grad for p in trainer.models["teacher"].parameters())
    path = tmp_path / "checkpoints" / "step-00000012"
    assert {p.name for p in path.glob("*.safetensors")} >= {
        "model.safetensors",
        "partner-teacher.safetensors",
    }
    again = with_teacher(tmp_path, "frozen")
    with torch.no_grad():
        for parameter in again.models["teacher"].parameters():
            parameter.zero_()
    assert again.resume() == 12 and tiny.digest(again.models["teacher"]) == before
    assert log.lines[-1]["loss"] < log.lines[0]["loss"]


def test_an_averaged_partner_follows_and_a_trained_one_is_trained(tmp_path: Path) -> None:
    trainer = with_teacher(tmp_path, "averaged")
    teacher = {n: p.clone() for n, p in trainer.models["teacher"].named_parameters()}
    trainer.take(first_step(trainer))
    for name, parameter in trainer.models["main"].named_parameters():
        expected = teacher[name] * AVERAGE + parameter.detach() * (1 - AVERAGE)
        torch.testing.assert_close(dict(trainer.models["teacher"].named_parameters())[name], expected)
    names = {n for g in with_teacher(tmp_path, "trained").optimizer.param_groups for n in g["param_names"]}
    assert "teacher.embedding.weight" in names and "main.embedding.weight" in names


def test_dropout_is_on_before_and_after_evaluation_and_after_a_resume(tmp_path: Path) -> None:
    """Trap 22: training forwards differ from each other, evaluation forwards do not, whatever came before."""

    def rests(network: Any) -> dict[str, float]:
        batch = first_step(trainer).batches[0]
        with network.at_rest():
            one, other = (network(batch).sums["tokens"] for _ in range(2))
        assert torch.equal(one, other)
        network.eval()  # an evaluation that forgets to put the mode back
        return {"loss": 1.0}

    def trains(trainer: Trainer) -> bool:
        batch = first_step(trainer).batches[0]
        torch.manual_seed(0)
        return not torch.equal(*(trainer.models["main"](batch).sums["tokens"] for _ in range(2)))

    trainer = tiny.trainer(tmp_path, "watch.evaluate_every=2", "watch.checkpoint_every=4", validate=rests)
    noisy: list[bool] = []
    trainer.periodic.append((1, lambda t: noisy.append(trains(t))))
    assert trains(trainer)
    trainer.run()
    again = tiny.trainer(tmp_path, "budget.steps=14", validate=rests)
    again.resume()
    assert trains(again) and noisy == [True] * 12
    again.run()
    assert trains(again)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["compute.micro_batch=9"], r"micro_batch = 9 rows is more than batch = 4"),
        (["budget={}"], "at least one of steps, epochs, tokens, minutes"),
        (["budget.steps=0"], "greater than or equal to 1"),
        (["watch.keep=0"], "greater than or equal to 1"),
        (["wach.keep=1"], "Did you mean 'watch'"),
        (["compute.precision=float16"], "float32"),
        (["optimizer.name=adamww"], "Did you mean 'adamw'"),
    ],
)
def test_impossible_settings_are_refused(changes: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tiny.train_settings(*changes)


def test_state_cannot_be_carried_by_a_model_that_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no state that goes on"):
        tiny.trainer(tmp_path, "loader.carry=true", model="decoder")


def test_after_each_step_networks_may_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts, whose bias moves by counts: however a step is cut, and through a resume, to the bit the same;
    and the log says how even they are used."""
    feed = {"width": 8, "experts": {"count": 4, "active": 1, "rate": 0.01}}
    monkeypatch.setitem(tiny.SMALL, "decoder", {"width": 16, "depth": 1, "heads": 2, "feed": feed})
    biases = {}
    for name, cut in (("whole", "micro_batch=4"), ("parts", "micro_batch=1")):
        log = tiny.Recorder()
        trainer = tiny.trainer(tmp_path / name, f"compute.{cut}", "budget.steps=1", log=log)
        trainer.run()
        biases[name] = dict(trainer.models["main"].named_buffers())["blocks.0.feed.bias"].clone()
        assert [line["load"] >= 1 for line in log.lines if "norm" in line] == [True]
    assert biases["whole"].any() and torch.equal(biases["whole"], biases["parts"])
    for until in (3, 6):
        again = tiny.trainer(tmp_path / "again", f"budget.steps={until}", "schedule.kind=constant")
        if until == 6:
            again.resume()
        again.run()
    once = tiny.trainer(tmp_path / "once", "budget.steps=6", "schedule.kind=constant")
    once.run()
    assert tiny.digest(again.models["main"]) == tiny.digest(once.models["main"])
