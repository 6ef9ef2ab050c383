"""What the `[data]` table of a recipe says: where the text is, how it is cleaned and how it is split."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import Field, model_validator

from telos.config import Lax, Settings
from telos.data import sources
from telos.find import names, suggestion

__all__ = ["CleanSettings", "DataSettings", "SplitSettings"]


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
class DataSettings(Settings):
    """Where the text comes from and what becomes of it."""

    source: str = "files"
    """`files`: each file by its suffix. Or one member of
    `telos/data/sources/`: for all files, or one that needs none."""
    path: Annotated[Path, Lax] | None = None
    """A file, or a folder that is read with everything in it."""
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
    split: SplitSettings = SplitSettings()

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
        known = ["files", *names(sources)]
        if self.source not in known:
            hint = suggestion(self.source, known)
            raise ValueError(f"there is no source {self.source!r}.{hint} There are: {', '.join(known)}.")
        if self.source not in _embedded() and self.path is None:
            raise ValueError(
                "path must be given: a file or folder of text "
                '(or source = "python_library", which needs none).'
            )
        if self.source in _embedded() and (self.path or self.validation or self.test):
            raise ValueError(
                f"source = {self.source!r} brings its own text: leave out path, validation and test."
            )
        try:
            re.compile(self.document_start)
        except re.error as error:
            raise ValueError(f"document_start is not a regular expression: {error}") from None
        return self


def _embedded() -> tuple[str, ...]:
    """Sources that need no files."""
    return ("python_library",)
