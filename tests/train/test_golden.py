"""The losses of the first steps: pinned to the bit where they were recorded, and held to an oracle
everywhere.

The oracle is a GRU, its loss, its gradient clipping, AdamW and the schedule written out in float64, without
anything of Telos but the initial weights and the order of the samples.

Recording for another machine: `python -m tests.train.test_golden` adds its key to
`tests/golden/first_steps.json`.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from telos.processor import processor_flags
from tests.train import tiny

GOLDEN = Path(__file__).parents[1] / "golden" / "first_steps.json"
STEPS = 8
CHANGES = ("schedule.kind=cosine", f"budget.steps={STEPS}", "compute.clip=0.3", "compute.micro_batch=3")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def key() -> str:
    """What the last bits of a float32 sum depend on."""
    flags = hashlib.blake2b(" ".join(sorted(processor_flags())).encode(), digest_size=6).hexdigest()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {capability}, features {flags}, {torch.get_num_threads()} thread"


def losses(folder: Path, model: str, double: bool = False) -> list[float]:
    """The losses of the first steps, without dropout where in float64."""
    log = tiny.Recorder()
    trainer = tiny.trainer(folder, *CHANGES, model=model, log=log, folder=None)
    if double:
        trainer.models["main"].double()
    trainer.run()
    return [line["loss"] for line in log.lines]


@pytest.mark.parametrize("model", ["decoder", "gru"])
def test_the_losses_of_the_first_steps_have_not_moved(tmp_path: Path, model: str) -> None:
    """Equal to the bit where recorded; elsewhere equal to float64 within the rounding of float32."""
    golden = json.loads(GOLDEN.read_text())
    found = losses(tmp_path, model)
    assert found == pytest.approx(golden["float64"][model], rel=2e-5)
    if key() in golden["exact"]:
        assert found == golden["exact"][key()][model]


@pytest.mark.parametrize("model", ["decoder", "gru"])
def test_the_recorded_float64_is_what_float64_gives(tmp_path: Path, model: str) -> None:
    """Dropout draws the same places in float64."""
    golden = json.loads(GOLDEN.read_text())
    assert losses(tmp_path, model, double=True) == pytest.approx(golden["float64"][model], rel=1e-9)


def pieces() -> list[tuple[list[int], list[int]]]:
    """What stands where in the corpus, by hand: at most 16 tokens in, as many asked, one further on."""
    vocabulary, found = tiny.vocabulary(), []
    for text in tiny.texts():
        ids = [vocabulary.begin, *vocabulary.encode(text).tolist(), vocabulary.end]
        pairs = list(itertools.pairwise(ids))
        for start in range(0, len(pairs), 16):
            part = pairs[start : start + 16]
            found.append(([a for a, _ in part], [b for _, b in part]))
    return found


def gru_nats(w: dict[str, Tensor], ids: list[int], targets: list[int]) -> Tensor:
    """−Σ log q of one document, one token after the other, by the equations of Cho et al. (2014)."""
    state = torch.zeros(w["layers.0.weight_hh_l0"].shape[1], dtype=torch.float64)
    nats = torch.zeros((), dtype=torch.float64)
    for token, target in zip(ids, targets, strict=True):
        inward = w["layers.0.weight_ih_l0"] @ w["embedding.weight"][token] + w["layers.0.bias_ih_l0"]
        across = w["layers.0.weight_hh_l0"] @ state + w["layers.0.bias_hh_l0"]
        (r_in, z_in, n_in), (r_on, z_on, n_on) = inward.chunk(3), across.chunk(3)
        reset, keep = 1 / (1 + torch.exp(-r_in - r_on)), 1 / (1 + torch.exp(-z_in - z_on))
        state = (1 - keep) * torch.tanh(n_in + reset * n_on) + keep * state
        logits = w["heads.tokens.weight"] @ state + w["heads.tokens.bias"]
        nats = nats + torch.log(torch.exp(logits).sum()) - logits[target]
    return nats


def oracle(start: dict[str, Tensor], steps: list[list[int]]) -> list[float]:
    """The losses of training on these samples, by formulas."""
    w = {name: tensor.double().clone().requires_grad_(True) for name, tensor in start.items()}
    m = {name: torch.zeros_like(tensor) for name, tensor in w.items()}
    v = {name: torch.zeros_like(tensor) for name, tensor in w.items()}
    corpus, found = pieces(), []
    for step, samples in enumerate(steps):
        asked = sum(len(corpus[sample][1]) for sample in samples)
        loss = sum(gru_nats(w, *corpus[sample]) for sample in samples) / asked
        assert isinstance(loss, Tensor)
        gradient = dict(zip(w, torch.autograd.grad(loss, list(w.values())), strict=True))
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradient.values()))
        rate = 0.01 * min(1.0, (step + 1) / 4) * (1 + math.cos(math.pi * step / STEPS)) / 2
        with torch.no_grad():
            for name, g in gradient.items():
                g = g * min(1.0, 0.3 / norm)
                m[name] = 0.9 * m[name] + 0.1 * g
                v[name] = 0.95 * v[name] + 0.05 * g * g
                mean, square = m[name] / (1 - 0.9 ** (step + 1)), v[name] / (1 - 0.95 ** (step + 1))
                decay = 0.1 if w[name].ndim == 2 and name != "embedding.weight" else 0.0
                w[name] -= rate * (mean / (square.sqrt() + 1e-8) + decay * w[name])
        found.append(float(loss.detach()))
    return found


def test_training_is_what_the_formulas_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight steps of a GRU in float64 through loader, micro-batches, loss, clipping, AdamW and schedule."""
    monkeypatch.setitem(tiny.SMALL, "gru", {"embedding": 12, "width": 16})
    log = tiny.Recorder()
    trainer = tiny.trainer(tmp_path, *CHANGES, model="gru", log=log, folder=None)
    trainer.models["main"].double()
    start = {name: p.detach().clone() for name, p in trainer.models["main"].named_parameters()}
    ledger = tiny.ledger(trainer)
    trainer.run()
    expected = oracle(start, [[sample for row in rows for sample in row] for rows in ledger()])
    assert [line["loss"] for line in log.lines] == pytest.approx(expected, rel=1e-9)
    assert any(line["norm"] > 0.3 for line in log.lines), "clipping had something to do"


def record() -> None:
    """Add this machine to the golden file."""
    import tempfile

    torch.set_num_threads(1)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"float64": {}, "exact": {}}
    exact: dict[str, list[float]] = {}
    for model in ("decoder", "gru"):
        with tempfile.TemporaryDirectory() as folder:
            golden["float64"].setdefault(model, losses(Path(folder), model, double=True))
            exact[model] = losses(Path(folder), model)
    golden["exact"][key()] = exact
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    record()
