"""Somebody else's model to start from: a folder as Hugging Face writes it, or the name of one on its hub.

    config.json                     what it is; never names code to run: `model_type` is looked up among ours
    model.safetensors               the weights, or the parts that model.safetensors.index.json lists
    tokenizer.json                  the vocabulary, and tokenizer_config.json, which tells its special tokens

An adapter can stand on it, in a folder of its own (see `_adapter`), with a vocabulary if that grew.

Nothing that is read here is executed: no pickled weights, no templates, no code beside the model.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from telos.errors import ConfigError, DataError
from telos.export import hf
from telos.export.hf import _adapter, _classes
from telos.export.hf._adapter import Adapter
from telos.export.hf._base import Architecture, Pair, has_head, named_head, to_ours
from telos.find import find, names, suggestion
from telos.json_files import read_object
from telos.models._base import Model, Network, Sizes
from telos.objectives._base import Learned

__all__ = ["Described", "describe", "holds", "load"]

_WANTED = (
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "tokenizer.json",
    "adapter_config.json",
)
_OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
_ROLES = {"begin": "bos", "end": "eos", "pad": "pad", "mask": "mask", "separate": "sep"}
"""Our special tokens, and what their keys in tokenizer_config.json begin with."""


class Described(NamedTuple):
    """What a recipe must say to start from such a folder."""

    model: dict[str, Any]
    """The settings of the model, its name included."""
    tokenizer: dict[str, Any]
    """The settings of the vocabulary."""
    content: str
    """A hash of all that was read and of the weights."""
    places: int
    """Tokens that it can read at once; 0 for no limit."""
    classes: Learned | None = None
    """Its head for classes, where it has one that can be taken over."""


class _Opened(NamedTuple):
    """A folder, and what stands on it."""

    folder: Path
    config: Mapping[str, Any]
    """As config.json has it, with the head for classes that came with an adapter."""
    architecture: Architecture
    words: Path
    """The folder that the vocabulary is in."""
    adapter: Adapter | None = None
    beside: tuple[Path, ...] = ()
    """The adapter's files."""


def describe(source: str, adapter: str = "") -> Described:
    """What is in `source`, with an `adapter` on it if there is one.

    Raises:
        ConfigError: there is no such folder, or a model or an adapter of a kind that is not known here.
        DataError: a file is missing or broken, or the weights are pickled.
    """
    opened = _open(source, adapter)
    tokenizer = opened.words / "tokenizer.json"
    if not tokenizer.is_file():
        raise DataError(
            f"{tokenizer}: there is no such file. Make one from what is there, with transformers: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)."
        )
    weights = _weight_files(opened.folder)
    special = _special_tokens(opened.words, opened.config, opened.architecture)
    return Described(
        model={"name": opened.architecture.model, **opened.architecture.describe(opened.config)},
        tokenizer={"path": str(tokenizer), "special": special},
        content=_digest([opened.folder / "config.json", tokenizer, *weights, *opened.beside]),
        places=opened.architecture.places(opened.config),
        classes=_classes.learned(opened.config, opened.architecture),
    )


def load(source: str, network: Network, model: Model, sizes: Sizes, *, adapter: str = "") -> list[str]:
    """Put the weights of `source`, with what an `adapter` adds to them, into a network that was built by its
    description and initialised.

    What the network has and the file has not stays as it is: heads, and rows for tokens beyond the file's
    vocabulary.

    Returns: sentences that say what was not simply taken over.

    Raises:
        ConfigError: the network has more places than the file, or other sizes; or the adapter does not fit.
        DataError: a tensor is missing or of another shape, or a file is broken.
    """
    opened = _open(source, adapter)
    config, architecture = opened.config, opened.architecture
    pairs = architecture.pairs(model, sizes)
    if architecture.places(config) and sizes.window > architecture.places(config):
        raise ConfigError(
            f"train.window = {sizes.window}: the model in {source} has {architecture.places(config)} places. "
            f"Set train.window to at most {architecture.places(config)}."
        )
    theirs = _moved(opened, pairs, sizes)
    _check_tied(architecture, config, theirs)
    left, said = _about_classes(opened, pairs, theirs, sizes)
    with torch.no_grad():
        parameters = dict(network.named_parameters())
        for pair in pairs:
            if pair.ours in left:
                continue
            if pair.spare and pair.theirs[0] not in theirs:
                pair = pair._replace(theirs=(pair.spare,))
            if all(name in theirs for name in pair.theirs):
                _check_shapes(parameters[pair.ours], pair, theirs)
                _copy(parameters[pair.ours], to_ours(pair, theirs), pair)
            elif pair.ours.startswith("heads."):
                said.append(f"{pair.ours} starts anew: {source} does not hold it")
            else:
                raise DataError(f"{opened.folder}: the weights lack {', '.join(pair.theirs)}.")
        known = {pair.ours for pair in pairs}
        anew = [name for name in parameters if name.startswith("heads.") and name not in known]
        said += [f"{name} starts anew: a {config['model_type']} has no such head" for name in anew]
    return [*said, *_not_taken(pairs, theirs, architecture), *_grown(pairs, theirs, sizes)]


def _moved(opened: _Opened, pairs: Sequence[Pair], sizes: Sizes) -> dict[str, Tensor]:
    """The weights of a folder, with what an adapter adds to them."""
    theirs, architecture = _tensors(opened.folder, opened.architecture), opened.architecture
    if opened.adapter is None:
        return theirs
    tied = has_head(sizes, "tokens") and bool(architecture.describe(opened.config).get("tied", True))
    return opened.adapter.on(theirs, pairs, architecture, tied=tied)


def holds(source: str, written: Path) -> bool:
    """Whether `source` is a folder or name of Hugging Face's with every weight of an export in `written`, to
    the bit, in whatever precision it keeps them."""
    try:
        folder = _folder(source)
        there, wanted = (_tensors(each, _config(each)[1]) for each in (folder, written))
    except (ConfigError, DataError):
        return False
    return all(n in there and torch.equal(there[n].float(), t) for n, t in wanted.items())


# ---- finding it


def _open(source: str, adapter: str) -> _Opened:
    folder = _folder(source)
    if _adapter.is_adapter(folder):
        raise ConfigError(
            f"model.from = {source!r}: what is there is an adapter, which stands on a model. Say both: "
            f'model.from={{source="MODEL", adapter="{source}"}}'
        )
    config, architecture = _config(folder)
    if not adapter:
        return _Opened(folder, config, architecture, folder)
    beside = _folder(adapter, "model.from.adapter")
    found = _adapter.read(adapter, beside, architecture)
    words = beside if (beside / "tokenizer.json").is_file() else folder
    told = found.told(config, architecture)
    return _Opened(folder, told, architecture, words, found, _adapter.files(beside))


def _folder(source: str, key: str = "model.from") -> Path:
    """The folder itself, or what was fetched from the hub."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source):
        raise ConfigError(
            f"{key} = {source!r}: there is no such folder. A model on the hub of Hugging Face is named "
            "with its owner: OWNER/NAME."
        )
    return _fetched(source, key)


def _fetched(name: str, key: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(
            f"{key} = {name!r}: there is no such folder; to fetch it from the hub of Hugging Face, "
            "install the extra: pip install 'telos-lm[hf]'."
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=[*_WANTED, *_OPTIONAL]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{key} = {name!r}: there is no such folder here, and it could not be fetched from the hub "
            f"of Hugging Face either: {reason} Give a folder, or fetch it on a machine with a network: "
            f"hf download {name} --local-dir FOLDER."
        ) from None


def _config(folder: Path) -> tuple[dict[str, Any], Architecture]:
    config = read_object(folder / "config.json", DataError)
    kind = config.get("model_type")
    if kind not in names(hf):
        raise ConfigError(
            f"{folder / 'config.json'}: model_type = {kind!r} is not known here."
            f"{suggestion(str(kind), names(hf))} There are: {', '.join(names(hf))}."
        )
    architecture = find(hf, str(kind), Architecture)()
    architecture.check(config)
    return config, architecture


def _weight_files(folder: Path) -> list[Path]:
    """The files that the weights are in.

    Raises:
        DataError: there are none, or pickled ones only.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        listed = read_object(index, DataError).get("weight_map")
        found = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
        if found and all(Path(name).name == name and (folder / name).is_file() for name in found):
            return [folder / name for name in found]
        raise DataError(f"{index}: it lists files that are not there.")
    pickled = sorted(path.name for path in folder.glob("*.bin")) or sorted(
        p.name for p in folder.glob("*.pt")
    )
    if pickled:
        raise DataError(
            f"{folder}: the weights are pickled ({pickled[0]}), and reading them could run any code. Convert "
            "them where you trust them, with transformers: "
            "AutoModelForPreTraining.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
        )
    raise DataError(f"{folder}: there is no model.safetensors.")


def _digest(paths: Sequence[Path]) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=32)).digest())
    return whole.hexdigest()


# ---- special tokens


def _special_tokens(folder: Path, config: Mapping[str, Any], architecture: Architecture) -> dict[str, str]:
    """Which tokens of the file play the parts that are known here, by our names.

    What tokenizer_config.json says, else special_tokens_map.json, else the ids of config.json, else what such
    a model's tokenizers always have.
    """
    vocabulary = _vocabulary(folder / "tokenizer.json")
    by_id = {id: token for token, id in vocabulary.items()}
    said = [read_object(folder / name, DataError) for name in _OPTIONAL[:2] if (folder / name).is_file()]
    found = {}
    for ours, theirs in _ROLES.items():
        options = [_content(table.get(key)) for table in said for key in _keys(ours, theirs)]
        if ours == "begin" and architecture.reads == "pair":  # what the decoder begins with
            options.insert(0, by_id.get(_number(config.get("decoder_start_token_id"))))
        options += [by_id.get(_number(config.get(f"{theirs}_token_id"))), architecture.specials.get(ours)]
        token = next((token for token in options if token is not None and token in vocabulary), None)
        if token is not None and token != f"<|{ours}|>":
            found[ours] = token
    return found


def _keys(ours: str, theirs: str) -> list[str]:
    """BERT begins with its token for classification, and ends with the separating one."""
    more = {"begin": ["cls_token"], "end": ["sep_token"]}
    return [f"{theirs}_token", *more.get(ours, [])]


def _content(value: Any) -> str | None:
    """A token, written as a string or as a table of its properties."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _number(value: Any) -> int:
    """An id; of several the first."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, int) else -1


def _vocabulary(path: Path) -> dict[str, int]:
    table = read_object(path, DataError)
    try:
        pieces = table["model"]["vocab"]
        if isinstance(pieces, list):
            pieces = {piece: id for id, (piece, _) in enumerate(pieces)}
        return {**pieces, **{each["content"]: each["id"] for each in table["added_tokens"]}}
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}: not a tokenizer.json of the `tokenizers` library.") from None


# ---- weights


def _tensors(folder: Path, architecture: Architecture) -> dict[str, Tensor]:
    """All weights by the names that `pairs` knows."""
    found: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            found |= load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise DataError(f"{path}: not a safetensors file that can be read: {error}") from None
    found = {
        _modern(name): tensor for name, tensor in found.items() if not name.endswith(architecture.derived)
    }
    if architecture.body and not any(name.startswith(architecture.body) for name in found):
        return {architecture.body + name: tensor for name, tensor in found.items()}
    return found


def _modern(name: str) -> str:
    """Norms of old files call their weight gamma and their bias beta."""
    return re.sub(r"(LayerNorm)\.gamma$", r"\1.weight", re.sub(r"(LayerNorm)\.beta$", r"\1.bias", name))


def _check_shapes(ours: Tensor, pair: Pair, theirs: Mapping[str, Tensor]) -> None:
    """Each of theirs must be of the shape of its part of ours; only where rows stand for tokens or places may
    there be more or fewer of them.

    Raises:
        DataError: one is not, or its numbers are whole ones: the weights are quantised.
    """
    for name, height in zip(pair.theirs, pair.heights or (len(ours),), strict=True):
        there = theirs[name]
        wanted = (height, *ours.shape[1:])
        found = tuple(reversed(there.shape) if pair.turned else there.shape)
        if len(found) != len(wanted) or found[1:] != wanted[1:] or (found[0] != height and not pair.per):
            raise DataError(
                f"{name}: the file has {tuple(there.shape)}, and the settings of the model say "
                f"{wanted[::-1] if pair.turned else wanted}. Leave the settings of the model out, but for "
                "dropout."
            )
        if not there.is_floating_point():
            raise DataError(
                f"{name}: the file has it in {there.dtype}: quantised weights are not read here. Give the "
                "ones that they were made from."
            )


def _copy(ours: Tensor, theirs: Tensor, pair: Pair) -> None:
    """Into place, as many rows as there are.

    Raises:
        DataError: they are not numbers.
    """
    if not bool(torch.isfinite(theirs).all()):
        raise DataError(f"{', '.join(pair.theirs)}: not all of its numbers are finite; the file is broken.")
    rows = min(len(ours), len(theirs))
    ours[:rows].copy_(theirs[:rows])


def _check_tied(architecture: Architecture, config: Mapping[str, Any], theirs: Mapping[str, Tensor]) -> None:
    """A head that is said to be the embedding must not be another one."""
    embedding = next((name for name in architecture.tied if name in theirs), None)
    head = next((name for name in architecture.tied[1:] if name in theirs), None)
    if not architecture.describe(config).get("tied", True) or embedding is None or head is None:
        return
    if not torch.equal(theirs[embedding], theirs[head]):
        raise DataError(
            f"config.json says that the head is the embedding (tie_word_embeddings), but the file holds "
            f"another one, {head}. One of them is wrong; ask whoever made it."
        )


def _not_taken(pairs: Sequence[Pair], theirs: Mapping[str, Tensor], architecture: Architecture) -> list[str]:
    taken = {*architecture.tied, *(name for pair in pairs for name in pair.theirs)}
    left = sorted(theirs.keys() - taken)
    if not left:
        return []
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return [f"not used, for nothing here needs them: {', '.join(left[:3])}{more}"]


def _about_classes(
    opened: _Opened, pairs: Sequence[Pair], theirs: Mapping[str, Tensor], sizes: Sizes
) -> tuple[set[str], list[str]]:
    """Of a head for classes: which tensors of ours start anew though the file has such, and what is to be
    said of it."""
    named = named_head(sizes)
    if named is None:
        return set(), []
    head = _classes.learned(opened.config, opened.architecture)
    rows = {f"heads.{named.name}.weight", f"heads.{named.name}.bias"}
    if not any(pair.ours in rows and pair.theirs[0] in theirs for pair in pairs):
        return set(), []
    if head is None or not head.fits(named.names):
        return rows, [_classes.begun_anew(named, head)]
    special = _special_tokens(opened.words, opened.config, opened.architecture)
    framed = _classes.framed_otherwise(opened.words, special, opened.architecture)
    return set(), [*_classes.called(named, head), *framed]


def _grown(pairs: Sequence[Pair], theirs: Mapping[str, Tensor], sizes: Sizes) -> list[str]:
    pair = next(pair for pair in pairs if pair.ours == "embedding.weight")
    rows = len(theirs[pair.theirs[0]])
    if rows < sizes.vocabulary:
        return [f"the embedding grew from {rows:,} to {sizes.vocabulary:,} rows, for special tokens"]
    if rows > sizes.vocabulary:
        return [
            f"{rows - sizes.vocabulary:,} rows of the embedding, for no token of the vocabulary, were left"
        ]
    return []
