"""Checkpoints are there whole or not at all, come back bit for bit, and cannot run code."""

import ast
import errno
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import telos
from telos.errors import CheckpointError
from telos.train import checkpoint

FORK = multiprocessing.get_context("fork")


def tensors(step: int, size: int = 1000) -> dict[str, dict[str, Tensor]]:
    """Tensors from which the step can be told."""
    return {
        "model": {"a": torch.full((size,), float(step)), "b": torch.arange(5)},
        "optimizer": {"exp_avg/a": torch.full((3,), step + 0.5, dtype=torch.bfloat16)},
    }


def saved(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(folder, step, tensors(step), {"step": step})


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def in_fork(act: Callable[[], Any]) -> int | None:
    """What became of a forked process that does `act`: its exit status, negative for a signal."""
    process = FORK.Process(target=act)
    process.start()
    process.join(60)
    return process.exitcode


def agree(folder: Path) -> int:
    """The step of the newest valid checkpoint, of which every file is of that step."""
    path = checkpoint.newest_valid(folder)
    assert path is not None
    found = checkpoint.load(path)
    assert found.state["step"] == found.step
    assert torch.equal(found.tensors["model"]["a"], tensors(found.step)["model"]["a"])
    return found.step


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Trap 63: dtype, shape and bits of everything, whatever the dtype."""
    kinds = [
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.int64,
        torch.uint8,
        torch.bool,
    ]
    given = {str(kind): (torch.randn(3, 4) * 9).to(kind) for kind in kinds}
    given |= {"empty": torch.empty(0), "scalar": torch.tensor(7.0), "turned": torch.randn(4, 3).T}
    given["pi"] = torch.tensor([3.141592653589793, -0.0, 1e-45])
    path = checkpoint.save(tmp_path, 3, {"model": given}, {"x": [1, 2.5, None, "ü"]})
    found = checkpoint.load(path)
    assert found.state == {"x": [1, 2.5, None, "ü"]} and found.step == 3
    for name, tensor in given.items():
        back = found.tensors["model"][name]
        assert back.dtype == tensor.dtype and back.shape == tensor.shape
        assert torch.equal(bits(back), bits(tensor)), name


def test_killed_at_any_call_of_save_the_old_or_the_new_is_there(tmp_path: Path) -> None:
    """Trap 57: killed at each of the file operations of a save in turn, what loads is the old one or the new
    one.
    """

    def save_and_die(folder: Path, at: int) -> None:
        left = [at]

        def count(event: str, args: Any) -> None:
            if event in (
                "open",
                "os.rename",
                "os.mkdir",
                "os.remove",
                "os.rmdir",
                "shutil.rmtree",
                "os.listdir",
            ):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        saved(folder, 2)
        os._exit(0)

    seen, at, status = set(), 0, -9
    while status != 0:
        folder = tmp_path / str(at)
        saved(folder, 1)
        status = in_fork(lambda folder=folder, at=at: save_and_die(folder, at)) or 0
        seen.add(agree(folder))
        saved(folder, 3)
        assert agree(folder) == 3 and not list(folder.glob(".*"))
        at += 1
    assert at > 15 and seen == {1, 2}


def test_killed_at_any_instant_of_replacing_a_step_it_is_still_there(tmp_path: Path) -> None:
    """Trap 57: saving a step over itself never leaves neither of the two."""

    def save_forever(folder: Path) -> None:
        for turn in range(10_000):
            checkpoint.save(folder, 7, tensors(7), {"step": 7, "turn": turn})

    draw = random.Random(0)
    saved(tmp_path, 7)
    for _ in range(25):
        process = FORK.Process(target=save_forever, args=(tmp_path,))
        process.start()
        time.sleep(draw.uniform(0.005, 0.04))
        process.kill()
        process.join()
        assert agree(tmp_path) == 7


@pytest.mark.parametrize("broken", ["manifest.json", "state.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["missing", "torn", "damaged"])
def test_a_broken_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, broken: str, how: str) -> None:
    """Trap 58: the newest valid one is used, whatever has befallen a newer one."""
    saved(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / broken
    if how == "missing":
        path.unlink()
    elif how == "torn":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        damage(path) if broken != "manifest.json" else path.write_text("{}")
    (tmp_path / "step-00000009").mkdir()
    (tmp_path / ".step-00000008.1.tmp").mkdir()
    (tmp_path / "step-junk").write_text("")
    with pytest.warns(RuntimeWarning, match="The newest whole checkpoint is used"):
        assert agree(tmp_path) == 1


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert checkpoint.newest_valid(tmp_path / "nothing") is None
    assert checkpoint.newest_valid(tmp_path) is None and checkpoint.best(tmp_path) is None


def test_a_later_format_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    path = tmp_path / "step-00000002" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": checkpoint.FORMAT + 1}))
    with pytest.raises(CheckpointError, match="Update Telos"):
        checkpoint.newest_valid(tmp_path)


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname", "a/b"])
def test_a_manifest_names_only_files_of_its_folder(tmp_path: Path, name: str) -> None:
    saved(tmp_path, 1)
    path = tmp_path / "step-00000001" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"size": 1, "sha256": ""}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"not the manifest"):
        checkpoint.load(path.parent)


def test_retention_keeps_the_newest_the_best_and_the_last_whole_one(tmp_path: Path) -> None:
    """Trap 59: with keep = 1 and a broken newest, the last healthy one stays; the best is outside of the
    rotation.
    """
    saved(tmp_path, 1, 2, 3, 4)
    checkpoint.set_best(tmp_path, 1, 0.5)
    damage(tmp_path / "step-00000004" / "model.safetensors")
    checkpoint.retain(tmp_path, keep=1)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [
        "step-00000001",
        "step-00000003",
        "step-00000004",
    ]
    assert checkpoint.best(tmp_path) == tmp_path / "step-00000001"


def test_weights_that_are_not_finite_are_never_published(tmp_path: Path) -> None:
    """Trap 59: a broken model does not take a healthy one's place."""
    saved(tmp_path, 1)
    bad = tensors(2)
    bad["model"]["a"][17] = torch.nan
    with pytest.raises(CheckpointError, match="a is not finite"):
        checkpoint.save(tmp_path, 2, bad, {"step": 2})
    assert agree(tmp_path) == 1 and not list(tmp_path.glob(".*"))


def full_disk(folder: Path, bytes: int) -> int | None:
    """Save step 2 where no file may be larger than `bytes`: 7 if that was refused as it should be."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, bytes))
        try:
            saved(folder, 2)
        except CheckpointError as error:
            os._exit(7 if "the disk is full" in str(error) else 8)
        os._exit(0)

    return in_fork(limited)


@pytest.mark.parametrize("size", [10, 300, 3000])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, size: int) -> None:
    """Trap 60: the writes really fail; the previous one is intact, nothing half-written stays, the error says
    why.
    """
    saved(tmp_path, 1)
    assert full_disk(tmp_path, size) == 7
    assert agree(tmp_path) == 1 and [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize(
    "call", ["os.fsync", "pathlib.Path.write_text", "pathlib.Path.rename", "pathlib.Path.mkdir"]
)
def test_no_space_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Trap 60."""
    saved(tmp_path, 1)

    def fail(*args: Any, **rest: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(CheckpointError, match="the disk is full"):
            saved(tmp_path, 2)
    assert agree(tmp_path) == 1 and [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.module = nn.Linear(4, 4)  # a child may well be called so
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight


def wrapped(kind: str) -> nn.Module:
    module = Tied()
    if kind == "inside":
        module.inner = torch.compile(module.inner, backend="eager")  # type: ignore[assignment]
    if kind in ("compiled", "both"):
        module = torch.compile(module, backend="eager")  # type: ignore[assignment]
    return nn.DataParallel(module) if kind in ("parallel", "both") else module


@pytest.mark.parametrize("one", ["plain", "compiled", "parallel", "both", "inside"])
@pytest.mark.parametrize("other", ["plain", "compiled", "parallel", "both", "inside"])
def test_wrappers_leave_no_trace(tmp_path: Path, one: str, other: str) -> None:
    """Trap 64: what any wrapper saved, any other loads, and every weight is there."""
    torch.manual_seed(1)
    source, target = wrapped(one), wrapped(other)
    path = checkpoint.save(tmp_path, 1, {"model": checkpoint.weights(source)}, {})
    loaded = checkpoint.load(path).tensors["model"]
    assert set(loaded) == set(checkpoint.weights(Tied()))
    assert "module.weight" in loaded and "head.weight" not in loaded
    checkpoint.restore(target, loaded)
    for name, tensor in checkpoint.weights(target).items():
        assert torch.equal(tensor, checkpoint.weights(source)[name])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("module.weight"), r"it lacks module\.weight"),
        (lambda w: w.update(extra=torch.ones(1)), "has extra too much"),
        (lambda w: w.update({"module.bias": torch.ones(3)}), r"module\.bias as torch\.float32 \(3,\)"),
        (lambda w: w.update({"module.bias": torch.ones(4).double()}), r"torch\.float64"),
    ],
)
def test_loading_is_strict(change: Callable[[dict[str, Tensor]], Any], says: str) -> None:
    """Trap 64: a missing, left-over or other weight is an error, and nothing has been changed by then."""
    found = {name: tensor.clone() + 1 for name, tensor in checkpoint.weights(Tied()).items()}
    change(found)
    target = Tied()
    before = {name: tensor.clone() for name, tensor in checkpoint.weights(target).items()}
    with pytest.raises(CheckpointError, match=says):
        checkpoint.restore(target, found)
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.weights(target).items())


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def forged(folder: Path, content: bytes) -> Path:
    """A checkpoint whose weights are `content`, with the hashes to match."""
    path = checkpoint.save(folder, 1, tensors(1), {"step": 1})
    (path / "model.safetensors").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = {
        "size": len(content),
        "sha256": checkpoint._sha256(path / "model.safetensors"),
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_a_pickle_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path) -> None:
    """Trap 69."""
    import pickle

    torch.save({"weights": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    for content in (pickle.dumps(Evil(tmp_path / "ran")), (tmp_path / "evil.pt").read_bytes()):
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            checkpoint.load(forged(tmp_path, content))
    assert not (tmp_path / "ran").exists()


FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def runs_code(path: Path) -> list[str]:
    """Where a source file imports or calls something that runs code from data."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                f"{path.name}: import {name}" for name in modules if name.partition(".")[0] in FORBIDDEN
            ]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            found += [called] if called in ("torch.load", "torch.save") else []
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [f"{path.name}: {called}"] if called in ("eval", "exec") else []
            if called in ("np.load", "numpy.load") and "allow_pickle=False" not in ast.unparse(node):
                found.append(f"{path.name}: {called} that may unpickle")
    return found


def test_nothing_in_the_source_runs_code_from_data(tmp_path: Path) -> None:
    """Trap 69: no pickle, no `torch.load`, no `eval` anywhere in the package."""
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import pickle.x\nfrom dill import load\ntorch.load(x)\neval('1')\n"
        "np.load(x)\nnumpy.load(x, allow_pickle=True)\nnp.load(x, allow_pickle=False)"
    )
    assert len(runs_code(bad)) == 6
    own = "data/filters/python.py"  # a user's own function, from a file that the recipe names
    sources = [p for p in sorted(Path(telos.__file__).parent.rglob("*.py")) if not p.as_posix().endswith(own)]
    assert len(sources) > 20 and [line for path in sources for line in runs_code(path)] == []


def with_header(header: dict[str, Any] | bytes, data: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def f32(start: int, end: int, *shape: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}


MALFORMED = {
    "nothing": b"",
    "short": b"\1\2",
    "header beyond the file": with_header({}, length=1 << 40),
    "header of all the address space": with_header({}, length=(1 << 64) - 1),
    "not JSON": with_header(b"{]"),
    "overlap": with_header({"a": f32(0, 8, 2), "b": f32(4, 12, 2)}, b"\0" * 12),
    "hole": with_header({"a": f32(0, 4, 1), "b": f32(8, 12, 1)}, b"\0" * 12),
    "beyond the end": with_header({"a": f32(0, 400, 100)}),
    "shape and size differ": with_header({"a": f32(0, 16, 5)}),
    "overflowing shape": with_header({"a": f32(0, 16, 1 << 62, 1 << 62)}),
    "negative": with_header({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
    "unknown dtype": with_header({"a": {"dtype": "F33", "shape": [4], "data_offsets": [0, 16]}}),
    "trailing bytes": with_header({"a": f32(0, 4, 1)}, b"\0" * 400),
    "deep": with_header(b'{"a":' * 5000),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Trap 73: huge headers, overlaps, holes, shapes that do not fit."""
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint.load(forged(tmp_path, MALFORMED[kind]))


def test_mutated_files_give_only_our_error(tmp_path: Path) -> None:
    """Trap 73: thousands of files with random damage load or are refused; nothing else happens."""
    draw = random.Random(0)
    path = checkpoint.save(tmp_path, 1, {"model": tensors(1, size=8)["model"]}, {})
    good = (path / "model.safetensors").read_bytes()
    refused = 0
    target = tmp_path / "mutated.safetensors"
    for _ in range(1500):
        content = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        target.write_bytes(content[: draw.randint(len(content) // 2, len(content))])
        try:
            checkpoint._load_tensors(target)
        except CheckpointError:
            refused += 1
    assert refused > 500


def test_state_that_is_not_a_state_is_refused(tmp_path: Path) -> None:
    for content in ("[1]", "{" * 100_000, "\xff"):
        path = checkpoint.save(tmp_path, 1, tensors(1), {})
        (path / "manifest.json").write_text(content)
        with pytest.raises(CheckpointError):
            checkpoint.load(path)
    shutil.rmtree(path)
    with pytest.raises(CheckpointError, match="incomplete"):
        checkpoint.load(path)
