"""Data sets of the `datasets` library: a folder that it saved, or one of the hub, streamed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Chunk, Rows, Skip
from telos.data.sources.arrow import Arrow
from telos.data.sources.parquet import Parquet
from telos.errors import DataError
from telos.json_files import read_object

__all__ = ["HuggingFace"]

_HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+|[\w.-]+)(?:@(?P<revision>[\w./-]+?))?(?::(?P<split>[\w.]+))?")


@final
class HuggingFace(Rows):
    """A folder made by `save_to_disk`, with one split or several; a folder of Parquet; or `OWNER/NAME:SPLIT`
    on the hub, `OWNER/NAME@REVISION:SPLIT` at a certain state. Needs `pip install 'telos-lm[data]'`, and for
    the hub `'telos-lm[hf]'`."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    subset: str = ""
    """Of a data set on the hub that has several configurations, which."""

    def files(self, path: Path | None) -> list[Path]:
        """The files of a folder in the order of its rows. A data set on the hub is its name, with the
        revision that it has now, so that all that is read is of one state.

        Raises:
            DataError: there is neither; or the hub cannot be reached.
        """
        assert path is not None
        if path.is_dir() or path.is_file():
            return list(_saved(path))
        if not (found := _HUB.fullmatch(path.as_posix())):
            raise DataError(f"{path}: neither a folder here nor a data set on the hub, as OWNER/NAME:SPLIT.")
        revision = _revision(found["id"], found["revision"])
        return [Path(f"{found['id']}@{revision}:{found['split'] or 'train'}")]

    def reads(self, path: Path) -> tuple[Path, ...]:
        """Of the hub no file: the name has the revision."""
        return (path,) if path.is_file() else ()

    def chunks(self, path: Path) -> list[Chunk]:
        """The files that the hub has a data set in; of a Parquet file, its groups of rows."""
        if path.is_file():
            return self._reader(path).chunks(path)
        shards = self._streamed(path).num_shards
        return [Chunk(n, n + 1, 1) for n in range(shards)] if shards > 1 else []

    def documents(
        self, path: Path, chunk: Chunk | None = None, skip: Skip = _base.ignore
    ) -> Iterator[Document]:
        if path.is_file():
            yield from self._reader(path).documents(path, chunk, skip)
            return
        streamed = self._streamed(path)
        part = f"{chunk.begin}:" if chunk else ""
        if chunk:
            streamed = streamed.shard(num_shards=streamed.num_shards, index=chunk.begin)
        with _explained(path):
            for number, values in enumerate(streamed, 1):
                yield self.record(values, f"{path.name}:{part}{number}", path)

    def _reader(self, path: Path) -> Rows:
        given = {key: getattr(self, key) for key in Rows.model_fields}
        return Parquet(**given) if _base.plain_suffix(path) == ".parquet" else Arrow(**given)

    def _streamed(self, path: Path) -> Any:
        found = _HUB.fullmatch(path.as_posix())
        assert found is not None, path
        return streamed(found["id"], found["split"] or "train", self.subset, found["revision"])


def _saved(path: Path) -> Iterator[Path]:
    """The tables of a folder that `datasets` saved, else all that there are."""
    if path.is_dir() and (path / "dataset_dict.json").is_file():
        for split in _json(path / "dataset_dict.json")["splits"]:
            yield from _saved(path / str(split))
    elif path.is_dir() and (path / "state.json").is_file():
        files = _json(path / "state.json").get("_data_files", [])
        for name in (str(entry["filename"]) for entry in files):
            if Path(name).name != name or not (path / name).is_file():
                raise DataError(f"{path / 'state.json'}: names {name!r}, which is not there. Save it again.")
            yield path / name
    else:
        tables = [f for f in _base.walk(path) if _base.plain_suffix(f) in (".parquet", ".arrow")]
        if not tables:
            raise DataError(f"{path}: no data set that `datasets` saved, and no .parquet or .arrow file.")
        yield from tables


def _json(path: Path) -> Any:
    return read_object(path, DataError, "Save the data set again.")


def streamed(id: str, split: str, subset: str = "", revision: str | None = None) -> Any:
    """A split of a data set as an iterable of rows, none of which is stored.

    Raises:
        DataError: the library is not installed, or does not find it.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"{id}: data sets of the hub need packages: pip install 'telos-lm[hf]'") from None
    with _explained(Path(id)):
        return datasets.load_dataset(id, subset or None, split=split, revision=revision, streaming=True)


def _revision(id: str, wanted: str | None) -> str:
    """The commit that a data set on the hub is at."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise DataError(
            f"{id}: there is no such folder; data sets of the hub need packages: pip install 'telos-lm[hf]'"
        ) from None
    with _explained(Path(id)):
        return str(HfApi().dataset_info(id, revision=wanted).sha)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever the libraries raise, in a line: they have no errors in common, and tokens stay out of it."""
    try:
        yield
    except (DataError, ImportError):
        raise
    except Exception as error:
        reason = re.sub(r"hf_\w+", "…", f"{type(error).__name__}: {error}".strip().partition("\n")[0][:300])
        raise DataError(
            f"{path.as_posix()}: there is no such folder here, and the hub of Hugging Face does not give it "
            f"either: {reason} Fetch it on a machine with a network (hf download --repo-type dataset), and "
            "give its folder."
        ) from None
