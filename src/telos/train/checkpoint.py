"""Checkpoints: safetensors and JSON in a folder that is there whole or not at all.

    checkpoints/step-00000100/   model.safetensors  optimizer.safetensors  state.json  manifest.json

A checkpoint is written under a temporary name, every file and the folder are flushed to the disk, and only
then is the folder renamed. The manifest, with the size and SHA-256 of each file, is written last. So whatever
instant the process or the machine dies at, the newest folder whose manifest holds true is a whole checkpoint.
Nothing here can run code.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from telos.errors import CheckpointError
from telos.json_files import read_object

__all__ = ["Checkpoint", "best", "load", "newest_valid", "restore", "retain", "save", "set_best", "weights"]

FORMAT = 1
"""Raised when an older program could no longer read what is written."""

_DAMAGED = "The checkpoint is incomplete or damaged."
_WRAPPERS = "_orig_mod."


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds, on the CPU."""

    path: Path
    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    """By file, without its ending, and name."""
    state: Mapping[str, Any]
    """Plain data."""


def save(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Path:
    """Write the checkpoint of `step` into `folder`; when this returns it is on the disk, under its name.

    `tensors` is {file: {name: tensor}}; dtypes and bits are kept. All of them must be finite, so that no
    broken model ever takes a healthy one's place.

    Raises:
        CheckpointError: a tensor is not finite, or the disk is full or cannot be written; what was there is
            untouched and nothing half-written is left.
    """
    for file, named in tensors.items():
        _refuse_non_finite(file, named)
    target = folder / f"step-{step:08d}"
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary.mkdir()
        _write(temporary, step, tensors, state)
        _publish(temporary, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing was ever saved, none is missing
        raise CheckpointError(
            f"{target}: the checkpoint could not be written: {_reason(error)} Earlier ones are untouched. "
            "Make room, or lower train.watch.keep, and start the run again: it goes on from the newest one."
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def newest_valid(folder: Path, first: Path | None = None) -> Path | None:
    """The newest checkpoint in `folder` that is whole, or `first` where that is; broken ones are passed over
    with one warning that names them all, and the one that is used.

    Raises:
        CheckpointError: the newest was written by a later version of Telos.
    """
    broken: list[str] = []
    for path in dict.fromkeys([*([first] if first else []), *reversed(_all(folder))]):
        try:
            _verified(path)
        except _Broken as error:
            broken.append(str(error))
        else:
            if broken:
                instead = f"The newest whole checkpoint is used instead: {path.name}."
                warnings.warn(" ".join([*broken, instead]), RuntimeWarning, stacklevel=2)
            return path
    if broken:
        warnings.warn(" ".join(broken), RuntimeWarning, stacklevel=2)
    return None


def load(path: Path) -> Checkpoint:
    """The checkpoint at `path`, its hashes checked, its tensors on the CPU.

    Raises:
        CheckpointError: it is missing, incomplete, damaged, or from a later version of Telos.
    """
    manifest = _verified(path)
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for name in manifest["files"]:
        if name.endswith(".safetensors"):
            tensors[name.removesuffix(".safetensors")] = _load_tensors(path / name)
    state = read_object(path / "state.json", _Broken, _DAMAGED)
    return Checkpoint(path=path, step=manifest["step"], tensors=tensors, state=state)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """What a module must save: parameters and persistent
    buffers, shared ones once, wrappers' prefixes left out.
    """
    found: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, tensor in bare(module).state_dict(keep_vars=True).items():
        if id(tensor) not in known:
            known.add(id(tensor))
            found[name.replace(_WRAPPERS, "")] = tensor.detach()
    return found


def bare(module: nn.Module) -> nn.Module:
    """The module inside of `torch.compile` and data-parallel wrappers."""
    while True:
        if isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        elif isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
            module = module.module
        else:
            return module


def restore(module: nn.Module, saved: Mapping[str, Tensor], what: str = "model") -> None:
    """Put saved weights into `module`, in place: every one of them, each of the same shape and dtype.

    Raises:
        CheckpointError: a weight is missing, left over, or of another shape or dtype.
    """
    own = weights(module)
    missing, unexpected = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"The checkpoint's {what} differs: it lacks {_some(missing)}, has {_some(unexpected)} too much. "
            "It belongs to other model settings; use the recipe that it was trained with."
        )
    for name, tensor in own.items():
        if (tensor.shape, tensor.dtype) != (saved[name].shape, saved[name].dtype):
            raise CheckpointError(
                f"The checkpoint's {what} has {name} as {saved[name].dtype} {tuple(saved[name].shape)}; "
                f"this run needs {tensor.dtype} {tuple(tensor.shape)}. Use the recipe it was trained with."
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def retain(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and the best; at least one that is whole always stays."""
    names = _all(folder)
    spared = {found for found in (best(folder),) if found is not None}
    if (whole := next((path for path in reversed(names) if _is_whole(path)), None)) is not None:
        spared.add(whole)
    for path in names[: max(len(names) - keep, 0)]:
        if path not in spared:
            shutil.rmtree(path, ignore_errors=True)


def set_best(folder: Path, step: int, loss: float) -> None:
    """Note which step was best on validation, at once and durably."""
    path = folder / "best.json"
    temporary = folder / ".best.json.tmp"
    try:
        temporary.write_text(json.dumps({"step": step, "loss": loss}))
        _flush(temporary)
        temporary.replace(path)
        _flush(folder)
    except OSError as error:
        raise CheckpointError(f"{path}: could not be written: {_reason(error)}") from error


def best(folder: Path) -> Path | None:
    """The checkpoint that was best on validation, if there is one."""
    try:
        noted = json.loads((folder / "best.json").read_text())
        path = folder / f"step-{int(noted['step']):08d}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if path.is_dir() else None


class _Broken(CheckpointError):
    """This one checkpoint cannot be used; another may be whole."""


def _refuse_non_finite(file: str, named: Mapping[str, Tensor]) -> None:
    for name, tensor in named.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{file}: {name} is not finite, so this step is not saved; earlier checkpoints stay. "
                "Lower the learning rate (train.optimizer.rate) and start the run again."
            )


def _write(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    for file, named in tensors.items():
        separate = {name: tensor.detach().contiguous() for name, tensor in named.items()}
        save_file(separate, folder / f"{file}.safetensors", metadata={"format": "pt"})
    (folder / "state.json").write_text(json.dumps(state, indent=1, allow_nan=False))
    files = {}
    for path in sorted(folder.iterdir()):
        _flush(path)
        files[path.name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1))
    _flush(manifest)
    _flush(folder)


def _publish(temporary: Path, target: Path) -> None:
    """Give the finished folder its name; an older one of that name stays readable until then."""
    old = target.with_name(target.name + ".old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    temporary.rename(target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what interrupted saves have left."""
    for path in folder.glob(".step-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _all(folder: Path) -> list[Path]:
    """All that looks like a checkpoint, oldest first; `.old` is one whose successor was never finished."""
    found = [(match, path) for path in _entries(folder) if (match := _NAME.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda pair: (int(pair[0][1]), not pair[0][2]))]


_NAME = re.compile(r"step-(\d{8,})(\.old)?")


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from folder.iterdir()


def _is_whole(path: Path) -> bool:
    try:
        _verified(path)
    except CheckpointError:
        return False
    return True


def _verified(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, once every file has the size and hash that it names."""
    manifest = read_object(path / "manifest.json", _Broken, _DAMAGED)
    if isinstance(manifest.get("format"), int) and manifest["format"] > FORMAT:
        raise CheckpointError(
            f"{path}: written in format {manifest['format']}, by a later Telos; this one reads up to "
            f"{FORMAT}. Update Telos."
        )
    files = manifest.get("files")
    if not (isinstance(files, dict) and "state.json" in files and isinstance(manifest.get("step"), int)):
        raise _Broken(f"{path}: manifest.json is not the manifest of a checkpoint.")
    for name, noted in files.items():
        if Path(name).name != name or not isinstance(noted, dict):
            raise _Broken(f"{path}: manifest.json is not the manifest of a checkpoint.")
        _verify(path / name, noted)
    return manifest


def _verify(path: Path, noted: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise _Broken(f"{path}: this file of the checkpoint is missing.")
    if path.stat().st_size != noted.get("size"):
        raise _Broken(f"{path}: {path.stat().st_size} bytes, where the manifest says {noted.get('size')}.")
    if _sha256(path) != noted.get("sha256"):
        raise _Broken(f"{path}: damaged: its SHA-256 is not the one in the manifest.")


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise _Broken(f"{path}: not a safetensors file that can be read: {error}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _some(names: list[str]) -> str:
    return (
        ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        if names
        else "nothing"
    )


def _reason(error: Exception) -> str:
    """Why a write failed; safetensors tells the system's error number in its text only."""
    told = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else 0
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "the disk is full, or a quota is." if full else f"{error}."
