"""What the `[data]` table of a recipe says: where the text is, how it is cleaned and how it is split."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import Field, model_validator

from telos.config import Lax, Settings
from telos.data import sources
from telos.find import names, suggestion

__all__ = [
    "CleanSettings",
    "DataSettings",
    "DedupeSettings",
    "EngineSettings",
    "OriginSettings",
    "SplitSettings",
]


@final
class CleanSettings(Settings):
    """What is done to every text before it is counted and
    tokenised. The data card says what each step changed."""

    normalise: Literal["NFC", "none"] = "NFC"
    """Unicode composition: `é` as one code point, however it was
    typed. Never NFKC, which rewrites Chinese punctuation."""
    newlines: Literal["lf", "keep"] = "lf"
    """`lf`: CR LF, CR, form feed, vertical tab and U+0085 become a line feed."""
    strip_control: bool = True
    """Remove control characters (NUL among them), all but tab, line feed and carriage return."""
    lower: bool = False
    """Lower-case everything. Lossy."""
    special_characters: Literal["keep", "remove"] = "keep"
    """`remove`: symbols and rare punctuation go; letters, marks, digits, white space and the punctuation of
    plain prose stay. Lossy."""
    invalid: Literal["replace", "refuse", "drop"] = "replace"
    """Bytes that are not UTF-8, and lone surrogates in JSON:
    put U+FFFD in their place, stop, or drop the document."""


@final
class SplitSettings(Settings):
    """Which documents are held out. A document's split depends
    on its content alone, so it stays when others come."""

    validation: float = Field(0.05, ge=0, lt=1)
    """Share of the documents."""
    test: float = Field(0.05, ge=0, lt=1)
    """Share of the documents."""
    unit: Literal["auto", "document", "part"] = "auto"
    """What is put in one split or the other: whole documents, or parts of them cut at blank lines. `auto`
    takes documents, unless there are fewer than 20 of them and parts are needed to hold any out; the data
    card says which it was."""

    @model_validator(mode="after")
    def _leave_some(self) -> "SplitSettings":
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be less than 1, so that something is left to train on")
        return self


@final
class DedupeSettings(Settings):
    """What counts as a copy. Of a text and its copies the first stays: held-out text before text to train on,
    then in the order of reading."""

    exact: bool = True
    """Drop texts that are the same, to the byte, after cleaning."""
    near: Literal["off", "report", "drop"] = "off"
    """Texts that share most of their word n-grams (MinHash): not looked for, counted on the data card, or
    dropped but for the first of each cluster."""
    threshold: float = Field(0.8, gt=0, le=1)
    """Estimated Jaccard similarity from which two texts are near copies."""


@final
class EngineSettings(Settings):
    """Who does the work. The result is the same to the byte, so that it is no part of the data's key."""

    kind: Literal["local", "ray"] = "local"
    """`local`: processes on this machine. `ray`: tasks of a Ray cluster; all its machines must see the same
    files and the same folder of runs (needs `pip install 'telos-lm[cluster]'`)."""
    workers: int = Field(0, ge=0, le=1024)
    """Processes; 1 works in this one. 0: as many as there are processors, and this one for small inputs."""
    address: str = ""
    """Of the Ray cluster, as `ray.init` takes it; empty: the one that the environment names, or a new one on
    this machine."""


@final
class OriginSettings(Settings):
    """One of several sources, which keep their names in the shards, so that they can be mixed by weight."""

    name: str = Field(min_length=1, max_length=100)
    """By which weights and the data card call it."""
    source: str = "files"
    """As `data.source`."""
    path: Annotated[Path, Lax] | None = None
    """As `data.path`."""
    text_key: str = "text"
    """As `data.text_key`."""
    document_start: str = ""
    """As `data.document_start`."""

    @model_validator(mode="after")
    def _fits(self) -> "OriginSettings":
        _check_source(self.source, self.path, self.document_start)
        return self


@final
class DataSettings(Settings):
    """Where the text comes from and what becomes of it."""

    source: str = "files"
    """`files`: each file by its suffix. Or one member of
    `telos/data/sources/`: for all files, or one that needs none."""
    path: Annotated[Path, Lax] | None = None
    """A file, or a folder that is read with everything in it."""
    sources: Annotated[tuple[OriginSettings, ...], Lax] = ()
    """Several sources with names, in place of `path`."""
    validation: Annotated[Path, Lax] | None = None
    """Files that are held out for validation instead of a share of `path`."""
    test: Annotated[Path, Lax] | None = None
    """Files that are held out for the test instead of a share of `path`."""
    text_key: str = "text"
    """Where JSON lines and Parquet have the text: a string, or a list of strings that are joined as lines."""
    document_start: str = ""
    """In text files, a line that this regular expression finds
    begins a new document; empty: a file is a document."""
    clean: CleanSettings = CleanSettings()
    dedupe: DedupeSettings = DedupeSettings()
    split: SplitSettings = SplitSettings()
    engine: EngineSettings = EngineSettings()

    @model_validator(mode="before")
    @classmethod
    def _hold_out_more_of_small_libraries(cls, given: Any) -> Any:
        """Embedded sources are small: unless told otherwise, hold out 20 % of them, so that at least 10 % of
        the bytes are."""
        if isinstance(given, dict) and given.get("source", "files") in _embedded() and "split" not in given:
            return {**given, "split": {"validation": 0.1, "test": 0.1}}
        return given

    @model_validator(mode="after")
    def _fits(self) -> "DataSettings":
        if self.sources:
            self._check_sources()
        else:
            _check_source(self.source, self.path, self.document_start)
        if self.source in _embedded() and (self.path or self.validation or self.test):
            raise ValueError(
                f"source = {self.source!r} brings its own text: leave out path, validation and test."
            )
        return self

    def _check_sources(self) -> None:
        if self.path is not None or self.source != "files":
            raise ValueError(
                "path and source are of one source; with sources, each has its own: leave them out."
            )
        named = [origin.name for origin in self.sources]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"sources: {twice[0]!r} is the name of two of them; each needs its own.")

    @property
    def origins(self) -> tuple[OriginSettings, ...]:
        """The sources, each with its settings; the one of `path` has the name `text`."""
        if self.sources:
            return self.sources
        given = {name: getattr(self, name) for name in OriginSettings.model_fields if name != "name"}
        return (OriginSettings(name="text", **given),)


def _check_source(source: str, path: Path | None, document_start: str) -> None:
    known = ["files", *names(sources)]
    if source not in known:
        hint = suggestion(source, known)
        raise ValueError(f"there is no source {source!r}.{hint} There are: {', '.join(known)}.")
    if source not in _embedded() and path is None:
        raise ValueError(
            'path must be given: a file or folder of text (or source = "python_library", which needs none).'
        )
    try:
        re.compile(document_start)
    except re.error as error:
        raise ValueError(f"document_start is not a regular expression: {error}") from None


def _embedded() -> tuple[str, ...]:
    """Sources that need no files."""
    return ("python_library",)
