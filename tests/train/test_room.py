"""Whether a step fits in memory: measured without a trace, chosen once, and said in plain words."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from telos import memory, objectives, optim, switches
from telos.config import override, read
from telos.errors import TrainingError
from telos.find import names
from telos.memory import free_memory, said, whole_memory
from telos.optim._groups import parameter_groups
from telos.recipe import Recipe, models_that_fit
from telos.run import fit
from telos.train import room
from telos.train.room import Room, check_size, settle
from telos.train.trial import Held, held, most_held, widened
from tests.contract import world
from tests.small import NARROW, SHRUNK, labelled, last_weights, write_texts
from tests.train import tiny

CPU = torch.device("cpu")
MIB = 2**20


def room_of(free: int, passes: Callable[[int], int], batch: int = 32, **changed: Any) -> Room:
    """40 MiB of weights and gradients each, twice that for the optimizer."""
    part = Held(40 * MIB, 40 * MIB, 80 * MIB)
    return Room(free=free, whole=2**40, batch=batch, held=part, measure=passes, **changed)


def linear(rows: int) -> int:
    """10 MiB, and 5 MiB a row."""
    return (10 + 5 * rows) * MIB


# ---------------------------------------------------------------- choosing


def test_the_most_rows_that_fit_are_taken() -> None:
    """By hand: of 400 MiB, 340 may be filled, 120 are gradients and state, so 220 are left: (220 − 10) / 5 =
    42 rows, all of 32. Of 300: 255 − 120 = 135, 25 rows; the even shares of 32 are 16, 11, 8 …"""
    assert room_of(2**40, linear).choose() == 0
    assert room_of(400 * MIB, linear).choose() == 0
    assert room_of(300 * MIB, linear).choose() == 16
    assert room_of(230 * MIB, linear).choose() == 11
    assert room_of(170 * MIB, linear).choose() == 2
    assert room_of(100 * MIB, linear).choose() == 1
    assert room_of(0, linear).choose() == 0, "where the system does not say, all of them"


def test_where_memory_is_plenty_one_row_is_measured_and_nothing_else() -> None:
    measured: list[int] = []

    def passes(rows: int) -> int:
        measured.append(rows)
        return linear(rows)

    assert room_of(2**40, passes).choose() == 0 and measured == [1]


def test_what_stops_growing_is_found_by_looking_again() -> None:
    """A part grows only up to four rows: a line through one and two rows promises too little."""

    def passes(rows: int) -> int:
        return (20 * min(rows, 4) + 3 * rows) * MIB

    free = 300 * MIB
    chosen = room_of(free, passes).choose()
    allowed = 0.85 * free - 120 * MIB
    assert chosen == 16 and passes(16) <= allowed
    by_line = 23 + 23 * 15
    assert by_line * MIB > allowed


def test_what_cannot_be_allocated_does_not_fit() -> None:
    def passes(rows: int) -> int:
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return MIB * rows * (100 if rows == 1 else 51)

    assert room_of(420 * MIB, passes, batch=8).choose() == 2


def test_a_number_that_is_given_stays_and_is_warned_of() -> None:
    lines: list[str] = []
    assert settle(room_of(300 * MIB, linear), 8, lines.append) == 8 and not lines
    tight = room_of(300 * MIB, linear, lean=lambda: 3 * MIB)
    assert settle(tight, 0, lines.append) == 0
    (warning,) = lines
    assert "memory will hardly suffice" in warning and "weights 40 MiB" in warning
    assert "gradients 40 MiB" in warning and "the optimizer's state 80 MiB" in warning
    assert "one row while it is computed 15 MiB" in warning and "32 rows at once 170 MiB" in warning
    assert "300 MiB were free" in warning and "train.compute.micro_batch = 16, which fits" in warning
    assert "train.compute.recompute = true" in warning and "a row then takes 3.0 MiB" in warning


def test_nothing_is_measured_where_not_even_gradients_have_room() -> None:
    lines: list[str] = []

    def passes(rows: int) -> int:
        raise AssertionError

    assert settle(room_of(100 * MIB, passes), None, lines.append) == 1
    assert "memory will hardly suffice" in lines[0] and "100 MiB were free" in lines[0]


def test_what_can_never_fit_is_refused() -> None:
    small = Room(
        free=10 * MIB, whole=150 * MIB, batch=4, held=Held(40 * MIB, 40 * MIB, 80 * MIB), measure=linear
    )
    with pytest.raises(TrainingError, match=r"cannot be trained here.*150 MiB.*weights 40 MiB"):
        settle(small, None, print)
    whole = whole_memory(CPU)
    if whole:
        check_size(whole // 8, CPU)
        with pytest.raises(TrainingError, match="weights and their gradients alone"):
            check_size(whole // 8 + 1, CPU)


# ---------------------------------------------------------------- measuring


def test_bytes_that_live_are_counted_and_no_others() -> None:
    def work() -> None:
        first = torch.ones(1000)  # 4000
        second = first.view(10, 100) * 2  # 4000 more; the view is no new memory
        second.add_(1)
        del first
        third = torch.cat((second, second))  # 8000 beside 4000
        del second, third
        torch.ones(500)

    assert most_held(work, CPU) == 12000


def test_what_is_held_for_the_backward_pass_is_counted() -> None:
    """Two layers of 100 × 100 on 50 rows: both inputs of the second one and the gradients on the way."""
    weight = torch.ones(100, 100, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    kept = most_held(lambda: torch.sigmoid(torch.sigmoid(torch.ones(50, 100) @ weight)).sum().backward(), CPU)
    assert 4 * 50 * 100 * 4 <= kept <= 4 * 50 * 100 * 5 + 2 * 4 * 100 * 100


@pytest.mark.parametrize("name", names(optim))
def test_the_state_of_every_optimizer_is_known_before_its_first_step(tmp_path: Path, name: str) -> None:
    made = tiny.trainer(tmp_path, f"optimizer={{name='{name}', rate=0.01}}", folder=None)
    groups = parameter_groups(made.trained(), 0.0)
    before = held(made.models.values(), groups, made.optimizer, made.settings.optimizer.build)
    assert before.there == 0
    made.run()
    after = held(made.models.values(), groups, made.optimizer, made.settings.optimizer.build)
    assert after == before._replace(there=before.state)
    assert before.gradients == sum(4 * p.numel() for p in made.models["main"].parameters())


def everything(trainer: Any) -> dict[str, Any]:
    """All of a trainer that could be disturbed."""
    state = [m.state_dict() for m in trainer.models.values()]
    buffers = [list(m.buffers()) for m in trainer.models.values()]
    grads = [p.grad is None for m in trainer.models.values() for p in m.parameters()]
    seen = [state, buffers, trainer.optimizer.state_dict(), trainer.state.table(), trainer._carried]
    modes = [module.training for m in trainer.models.values() for module in m.modules()]
    text = repr((seen, grads, modes, torch.get_rng_state().tolist()))
    return {"text": text}


@pytest.mark.parametrize("kind", ["decoder", "experts", "gru"])
def test_a_trial_changes_nothing(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_printoptions(profile="full", precision=10)
    model = "gru" if kind == "gru" else "decoder"
    experts = {"feed": {"width": 8, "experts": {"count": 4, "active": 2}}} if kind == "experts" else {}
    monkeypatch.setitem(tiny.SMALL, model, {**tiny.SMALL[model], **experts})
    try:
        carry = ("loader.carry=true",) if kind == "gru" else ()
        made = tiny.trainer(tmp_path, *carry, "budget.steps=2", model=model, folder=None)
        made.run()  # so that there is something to disturb
        before = everything(made)
        made._room = found = room.of(made, made.trained())
        assert found.measure(1) > 0 and found.measure(3) > found.measure(1)
        assert found.lean is None or found.lean() > 0
        assert everything(made) == before
    finally:
        torch.set_printoptions(profile="default")


def test_a_matrix_that_is_laid_out_for_the_gru_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a tensor that does not say where it lies."""
    monkeypatch.setattr("telos.models._fused.SMALL", 0)
    made = tiny.trainer(tmp_path, model="gru", folder=None)
    assert room.of(made, made.trained()).measure(2) > 0


def test_rows_are_measured_as_if_nothing_could_be_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What attention in parts saves depends on the documents, and those of other rows may be longer."""
    found: list[bool] = []
    made = tiny.trainer(tmp_path, model="decoder", folder=None)
    monkeypatch.setattr(made, "trial", lambda batch: found.append(switches.on("parts")) or 1)
    assert room.of(made, made.trained()).measure(2) == 1
    assert found == [False] and switches.on("parts")


@pytest.mark.parametrize(("name", "model"), [("masked", "encoder"), ("span", "encoder_decoder")])
def test_rows_to_measure_by_are_full(tmp_path: Path, name: str, model: str) -> None:
    """By the window on both sides, and each is asked as much as those that they are made of."""
    texts = write_texts(tmp_path / "texts", 30)
    made: list[Any] = []

    def seen(batch: Any, rows: int, plan: Any) -> Any:
        made.append((batch, widened(batch, rows, plan), plan))
        return made[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "widened", seen)
        fit(recipe_of(name, model, texts, "train.compute.micro_batch=auto"), tmp_path)
    batch, wide, plan = made[0]
    assert wide.main.shape == (1, 24) and len(wide.samples) == 1
    more = widened(batch, 20, plan)
    sides = [more.main] if more.source is None else [more.main, more.source]
    for side in sides:
        assert side.shape == (20, 24) and bool((side.segment >= 0).all())
    for before, after in zip(batch.asks, more.asks, strict=True):
        real = after.at[after.weight > 0]
        assert after.at.max() < 20 * 24 and len(real.unique()) == len(real)
        share = len(before.at) / batch.main.ids.numel()
        assert share * 0.5 < len(after.at) / (20 * 24) < share * 2
        first = after.at[: len(before.at)]
        places = batch.main.shape[1]
        assert torch.equal(first, before.at // places * 24 + before.at % places)


# ---------------------------------------------------------------- whole runs


def recipe_of(objective: str, model: str, texts: Path, *changes: str) -> Recipe:
    rest = {"of": ["causal"]} if objective in ("mixture", "together") else {}
    narrow = NARROW.get(model, ("model.width=16", "model.depth=2", "model.head=8", "model.state=8"))
    types = ["model.embedding.types=2"] if model == "encoder" else []
    data = {"path": str(texts), "split": {"validation": 0.2, "test": 0.2}}
    table = {"model": model, "objective": {"name": objective, **rest}, "data": data}
    sizes = [*SHRUNK, *narrow, *types, "tokenizer.size=400", "train.window=24", "train.batch=6"]
    return read(Recipe, override(table, [*sizes, *changes]))


def texts_for(objective: str, folder: Path) -> Path:
    """Texts, with classes and targets where the objective reads such."""
    if not {"label", "target"} & {*world.make_objective(objective).columns()}:
        return write_texts(folder / "texts", 30)
    rows = ({"text": text, "label": label, "target": f"{label} film"} for text, label in labelled(30))
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


WHOLE = [
    (name, models_that_fit(world.make_objective(name))[0]) for name in names(objectives) if name != "distil"
] + [("causal", "state_space"), ("causal", "gru")]


def short_of_memory(monkeypatch: pytest.MonkeyPatch, rows: float) -> None:
    """There is room for so many rows, by the measure of the model itself."""
    before = room.of

    def tight(*given: Any) -> Room:
        made = before(*given)
        made.spare, made.free = 0, int((made.held.more + rows * made.measure(1)) / room.SHARE) + 1
        return made

    monkeypatch.setattr(room, "of", tight)


@pytest.mark.parametrize(("name", "model"), WHOLE)
def test_a_run_that_chose_is_the_run_that_was_told(
    tmp_path: Path, name: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every objective, with its partners and sides: what is chosen is noted, kept when the run is gone on
    with, whatever memory there is then, and the trial leaves no trace in the weights."""
    texts = texts_for(name, tmp_path)
    still = "train.schedule={kind='constant', warmup=1.0}"
    auto = "train.compute.micro_batch=auto"
    with monkeypatch.context() as patch:
        short_of_memory(patch, 3.2)
        fit(recipe_of(name, model, texts, "name=chose", still, auto), tmp_path)
    machine = json.loads((tmp_path / "chose" / "machine.json").read_text())
    rows = machine["micro_batch"]
    assert 1 <= rows < 6
    chose = fit(recipe_of(name, model, texts, "name=chose", still, auto, "train.budget.steps=4"), tmp_path)
    assert json.loads((tmp_path / "chose" / "machine.json").read_text())["micro_batch"] == rows
    number = f"train.compute.micro_batch={rows}"
    told = fit(recipe_of(name, model, texts, "name=told", still, number, "train.budget.steps=4"), tmp_path)
    ours, theirs = last_weights(chose), last_weights(told)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs) and ours.keys() == theirs.keys()


def test_where_memory_is_plenty_all_rows_go_at_once(tmp_path: Path) -> None:
    made = tiny.trainer(tmp_path, folder=None)
    assert made.settings.compute.micro_batch == "auto" and made.make_room() == 0
    assert made.state.micro_batch == 0


# ---------------------------------------------------------------- when it runs out

LITTLE = """
import resource, sys
from pathlib import Path
from telos.errors import TrainingError
from telos.memory import _field
from tests.train import tiny

class Loud:
    def say(self, line): print("SAID", line)
    def show(self, **rest): pass
    def close(self): pass

tiny.SMALL["decoder"] = {"width": 128, "depth": 4, "heads": 4}
texts = ["many words of one text are in here " * 40] * 80
changes = ("window=512", "batch=64", "budget.steps=2", "compute.compile=false", sys.argv[2])
made = tiny.trainer(Path(sys.argv[1]), *changes, documents=texts, display=Loud(), folder=None)
limit = _field("self/status", "VmSize") + 1024 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    made.run()
except TrainingError as error:
    print("ERROR", error)
else:
    print("TRAINED", made.plan.micro_batch)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of addresses is Linux's")
@pytest.mark.parametrize("rows", ["0", "auto"])
def test_a_real_lack_of_memory(tmp_path: Path, rows: str) -> None:
    """1 GiB for a step that needs more: what is told too many rows says which would fit, and stops with
    that; what may choose trains."""
    told = [sys.executable, "-c", LITTLE, str(tmp_path), f"compute.micro_batch={rows}"]
    done = subprocess.run(told, capture_output=True, text=True, timeout=300, check=False)
    if rows == "auto":
        last = done.stdout.splitlines()[-1]
        assert last.startswith("TRAINED") and 0 < int(last.split()[1]) < 64, done.stdout + done.stderr
        assert "of 64 rows go through the model at once" in done.stdout
        return
    warned, failed = [line for line in done.stdout.splitlines() if line.startswith(("SAID", "ERROR"))]
    assert "memory will hardly suffice" in warned
    for line in (warned, failed):
        assert "which fits" in line and "train.compute.recompute = true" in line and "weights 3" in line
    assert failed.startswith("ERROR Memory ran out (")


def test_the_advice_without_figures_is_still_advice() -> None:
    error = RuntimeError("[x] DefaultCPUAllocator: can't allocate memory: you tried to")
    assert room.ran_out(RuntimeError("another"), None, 0) is None
    assert "Memory ran out" in str(room.ran_out(error, None, 0))
    unmeasured = room_of(0, linear)
    text = str(room.ran_out(error, unmeasured, 0))
    assert "train.compute.micro_batch = 16 (the same" in text and "recompute" not in text
    assert "smaller train.window" in str(room.ran_out(error, unmeasured, 1))


# ---------------------------------------------------------------- how much there is


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str]) -> None:
    """A machine with 8 GiB, 6 of them available, and 1 GiB of swap."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\nSwapTotal: 1048576 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = cgroups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", cgroups)


GIB = 2**30
SECOND = {
    "a/memory.max": f"{4 * GIB}\n",
    "a/memory.current": f"{3 * GIB}\n",
    "a/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    "a/b/memory.max": "max\n",
}
FIRST_KIND = {
    "memory/j/memory.limit_in_bytes": f"{4 * GIB}\n",
    "memory/j/memory.usage_in_bytes": f"{3 * GIB}\n",
    "memory/j/memory.stat": f"total_inactive_file {GIB}\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
}


@pytest.mark.parametrize(
    ("groups", "files", "free", "whole"),
    [
        ("0::/\n", {}, 6, 9),
        ("0::/a/b\n", SECOND, 2, 5),
        ("0::/elsewhere\n", {"memory.max": f"{GIB}\n", "memory.current": f"{GIB // 2}\n"}, 0.5, 2),
        ("3:cpu:/j\n4:memory:/j\n", FIRST_KIND, 2, 5),
        ("", {}, 6, 9),
    ],
)
def test_the_limits_of_control_groups_count(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    files: dict[str, str],
    free: float,
    whole: float,
) -> None:
    machine(tmp_path, monkeypatch, groups, files)
    monkeypatch.setattr(memory, "_addresses", lambda: iter(()))
    assert free_memory(CPU) == free * GIB and whole_memory(CPU) == whole * GIB
    assert whole_memory(CPU, swap=False) == whole * GIB - GIB


def test_where_the_system_does_not_say_it_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert free_memory(CPU) == whole_memory(CPU) == 0
    assert free_memory(torch.device("mps")) == 0


def test_sizes_for_people() -> None:
    sizes = {
        300: "300 bytes",
        2048: "2 KiB",
        3.5 * MIB: "3.5 MiB",
        300 * MIB: "300 MiB",
        1.5 * GIB: "1.5 GiB",
    }
    assert {size: said(size) for size in sizes} == sizes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_is_measured_by_its_allocator(tmp_path: Path) -> None:
    device = torch.device("cuda")
    assert 0 < free_memory(device) <= whole_memory(device)
    assert most_held(lambda: torch.ones(2**20, device=device), device) == 2**22
