"""What the `[data]` table of a recipe says: where the text is, how it is cleaned and how it is split."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field, model_validator

from telos.config import Lax, Settings, member
from telos.data import filters as _filters
from telos.data import sources
from telos.data.filters._base import Filter
from telos.data.privacy._settings import PrivacySettings
from telos.data.remote import Access, is_remote
from telos.find import names, suggestion

__all__ = [
    "CleanSettings",
    "DataSettings",
    "DecontaminateSettings",
    "DedupeSettings",
    "EngineSettings",
    "OriginSettings",
    "RemoteSettings",
    "SourceSettings",
    "SplitSettings",
]


class RepairSettings(Settings):
    """Cleaning that text from elsewhere needs, and other text does not."""

    repair: bool = False
    """Mend text that was decoded wrongly: UTF-8 read as Latin-1 or Windows-1252 (`Ã©` for `é`), GBK read as
    Latin-1 (`ÄãºÃ` for `你好`). Needs a package more: `pip install 'telos-lm[data]'`."""
    boilerplate: bool = False
    """Drop lines that web pages have around their text: notices about cookies and rights, navigation, calls
    to share or subscribe, in English and Chinese. Lossy."""
    width: Literal["keep", "half"] = "keep"
    """`half`: full-width Latin letters and digits (`Ａ１`) become half-width; Chinese punctuation stays."""
    script: Literal["keep", "simplified", "traditional"] = "keep"
    """Turn Chinese characters into one of the two scripts, by OpenCC's dictionaries; Japanese in the text is
    changed as well. Lossy. Needs a package more: `pip install 'telos-lm[chinese]'`."""
    spaces: Literal["keep", "collapse"] = "keep"
    """`collapse`: blanks at line ends go, and several blank lines become one; indents stay."""


@final
class CleanSettings(RepairSettings):
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


def _place(given: Any) -> Any:
    """A path, or a URL as it stands: a path has no two slashes one after the other."""
    return Path(given) if isinstance(given, str) and not is_remote(given) else given


Place = Annotated[Path | str, BeforeValidator(_place)]
"""Where text is: a path of this machine, or a URL."""


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
    threshold: float = Field(0.55, gt=0, le=1)
    """Estimated Jaccard similarity of their 5-grams of words from which two texts are near copies; 0.55 finds
    those that have 80 % of their words in common."""
    paragraphs: int = Field(0, ge=0)
    """Lines of at least so many words that stood before are cut out of texts to train on; 0: none. 20 suits
    web pages."""
    stretches: int = Field(0, ge=0)
    """And so are stretches of at least so many words, wherever they begin; 0: none. Lee et al. (2022) took 50
    tokens."""


@final
class DecontaminateSettings(Settings):
    """Whether texts to train on hold text of evaluation sets: those named here, and the files of
    `data.validation` and `data.test`. Of their n-grams of words, see docs/duplicates.md."""

    action: Literal["off", "report", "drop", "refuse"] = "off"
    """Not looked for, counted on the data card, dropped, or an error that shows where."""
    against: Annotated[tuple[Place, ...], Lax] = ()
    """Evaluation sets: files, folders or URLs, read as `data.path` is."""
    words: int = Field(13, ge=5, le=50)
    """Words of an n-gram; a Chinese character counts for half a word."""
    share: float = Field(0.0, ge=0, lt=1)
    """Of a text's words, more than this share must be in such n-grams; at 0, one n-gram is enough."""


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


class FormatSettings(Settings):
    """Where the text is in a file."""

    text_key: str = "text"
    """Where JSON lines and tables have the text: a string, a list of strings that are joined as lines, or a
    list of messages, each with its `role` and `content`. A key with dots, `translation.de`, leads into
    objects; of several, `instruction+input`, the texts become paragraphs."""
    target_key: str = "target"
    """Where they have the text to learn to answer with, if there is one."""
    label_key: str = "label"
    """Where they have the class of the text, if it has one."""
    prefix: str = ""
    """Put before every text, as `translate to English: `: tells the tasks of several sources apart (Raffel et
    al., 2020)."""
    document_start: str = ""
    """In text files, a line that this regular expression finds
    begins a new document; empty: a file is a document."""
    columns: Annotated[tuple[str, ...], Lax] = ()
    """Names of the columns of `.csv` and `.tsv` files that have no line of names: `["text", "target"]`."""
    pair: Annotated[tuple[str, ...], Lax, Field(max_length=2)] = ()
    """Of `source = "pairs"`: the parts of the files' names that tell the texts from the targets, as
    `["de", "en"]`."""
    subset: str = ""
    """Of a data set on the Hugging Face hub that has several configurations, which."""


class SourceSettings(FormatSettings):
    """Where text is, and how it is read."""

    source: str = "files"
    """`files`: each file by its suffix. Or one member of
    `telos/data/sources/`: for all files, or one that needs none."""
    path: Place | None = None
    """A file, or a folder that is read with everything in it; or a URL (`https://`, `s3://`, `gs://`)."""


@final
class OriginSettings(SourceSettings):
    """One of several sources, which keep their names in the shards, so that they can be mixed by weight."""

    name: str = Field(min_length=1, max_length=100)
    """By which weights and the data card call it."""

    @model_validator(mode="after")
    def _fits(self) -> "OriginSettings":
        _check_source(self)
        return self


@final
class RemoteSettings(Settings):
    """How text, or prepared data, is fetched that is elsewhere. It is no part of the data's key."""

    cache: Annotated[Path, Lax] = Path("runs/fetched")
    """The folder in which what was fetched is kept."""
    gigabytes: float = Field(100.0, gt=0)
    """How large it may become; what was not used the longest makes room."""
    allow_hosts: Annotated[tuple[str, ...], Lax] = ()
    """Hosts with ports, as `127.0.0.1:8000`, that URLs may lead to although they are on a private network,
    and that may speak plain HTTP."""

    @property
    def access(self) -> Access:
        """The same for those who fetch."""
        most = int(self.gigabytes * 1e9)
        return Access(cache=self.cache, most=most, allow_hosts=self.allow_hosts)


class PreparationSettings(SourceSettings):
    """What becomes of the text."""

    clean: CleanSettings = CleanSettings()
    filters: Annotated[tuple[member(_filters, Filter), ...], Lax] = ()  # type: ignore[valid-type]
    """Members of `telos/data/filters/`, by which documents are dropped, in this order."""
    privacy: PrivacySettings = PrivacySettings()
    dedupe: DedupeSettings = DedupeSettings()
    decontaminate: DecontaminateSettings = DecontaminateSettings()
    split: SplitSettings = SplitSettings()


@final
class DataSettings(PreparationSettings):
    """Where the text comes from and what becomes of it."""

    sources: Annotated[tuple[OriginSettings, ...], Lax] = ()
    """Several sources with names, in place of `path`."""
    mix_by: Literal["language"] | None = None
    """What `train.loader.mix` has the shares of in place of sources: `language`, by what the files say or the
    filter `language` finds; `und` is what has none."""
    validation: Place | None = None
    """Files that are held out for validation instead of a share of `path`."""
    test: Place | None = None
    """Files that are held out for the test instead of a share of `path`."""
    prepared: Place | None = None
    """Where all this is done already: the folder that `telos prepare` made, `runs/prepared/KEY`, or its URL.
    The text itself is not read then, and need not be there; the settings must be those it was prepared
    with."""
    remote: RemoteSettings = RemoteSettings()
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
        elif self.prepared is None:
            _check_source(self)
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
        given = {name: getattr(self, name) for name in SourceSettings.model_fields}
        return (OriginSettings(name="text", **given),)


def _check_source(given: SourceSettings) -> None:
    known = ["files", *names(sources)]
    if given.source not in known:
        hint = suggestion(given.source, known)
        raise ValueError(f"there is no source {given.source!r}.{hint} There are: {', '.join(known)}.")
    if given.source not in _embedded() and given.path is None:
        raise ValueError(
            'path must be given: a file or folder of text (or source = "python_library", which needs none).'
        )
    try:
        re.compile(given.document_start)
    except re.error as error:
        raise ValueError(f"document_start is not a regular expression: {error}") from None


def _embedded() -> tuple[str, ...]:
    """Sources that need no files."""
    return ("python_library",)
