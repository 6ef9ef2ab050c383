"""The documentation is true: its Python runs, its recipes read, its commands parse, its links lead
somewhere."""

import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import typer

from telos import cli, shipped
from telos.config import read
from telos.recipe import Recipe
from telos.run import load_recipe
from tests.small import write_texts

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    if ".venv" not in path.parts
)
CHECKED = {"python", "toml", "console", "text", ""}


class Block(NamedTuple):
    """A fenced block: its language, its text, the line it begins at, and the file that it is to be saved as,
    if any."""

    language: str
    text: str
    line: int
    file: str


def blocks(page: str, *languages: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(
        r"(?:<!-- file: (\S+) -->\n)?^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    ):
        if found[2] in languages:
            yield Block(found[2], found[3], text.count("\n", 0, found.start(3)), found[1] or "")


def pages_with(*languages: str) -> list[str]:
    return [page for page in PAGES if any(blocks(page, *languages))]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with some text of one's own."""
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "my-texts")
    return tmp_path


@pytest.mark.parametrize("page", pages_with("python"))
def test_its_python_runs(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, one after the other, in one namespace."""
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks(page, "python"):
        if block.file:
            add_member(block, desk, monkeypatch)
        else:
            exec(compile("\n" * block.line + block.text, str(ROOT / page), "exec"), namespace)


def add_member(block: Block, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the reader is told to save in an open set: found there, for as long as the test lasts."""
    path = desk / "members" / Path(block.file).name
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    package = importlib.import_module(Path(block.file).parent.relative_to("src").as_posix().replace("/", "."))
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
    module = f"{package.__name__}.{path.stem}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    importlib.import_module(module)
    monkeypatch.delitem(sys.modules, module)  # forgotten again at the end, or a later test would find it
    sys.modules.pop(module, None)


@pytest.mark.parametrize("page", pages_with("toml"))
def test_its_recipes_read(page: str) -> None:
    """Whole recipes as they are; parts of one with the rest by default."""
    for block in blocks(page, "toml"):
        table = tomllib.loads(block.text)
        data = table.setdefault("data", {})
        if data.get("source", "files") != "python_library" and "sources" not in data:
            data.setdefault("path", "my-texts")
        if isinstance(train := table.get("train"), dict):
            train.setdefault("budget", {"epochs": 1.0})
        read(Recipe, table, f"{page}:{block.line}")


@pytest.mark.parametrize("page", pages_with("console"))
def test_its_commands_are_commands(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk / "recipes").symlink_to(ROOT / "recipes")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in blocks(page, "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0] == "make":
                assert {word for word in words[1:] if "=" not in word} <= targets, f"{page}: {line}"
            if words and Path(words[0]).name == "telos":
                check_command(words[1:], f"{page}: {line}")


def check_command(words: list[str], where: str) -> None:
    """It parses; and where it has settings, they are settings."""
    group: Any = typer.main.get_command(cli.app)
    words = [word for word in words if word not in ("|", ">")]
    if words and words[0] in ("--help", "--version"):
        return
    while words and words[0].startswith("--"):
        words = words[1:]
    assert words and words[0] in group.commands, where
    while hasattr(command := group.commands[words[0]], "commands"):
        group, words = command, words[1:]
        assert words and words[0] in group.commands, where
    try:
        parsed = command.make_context(words[0], [w for w in words[1:] if w != "--help"]).params
    except click.ClickException as error:
        pytest.fail(f"{where}: {error.format_message()}")
    what = "demo" if words[0] == "demo" else parsed.get("what")
    if what and what not in shipped.described() and not what.endswith(".toml"):
        Path(what).parent.mkdir(parents=True, exist_ok=True)
        Path(what).touch()  # text of the reader's own
    if what and not (what.endswith(".toml") and not Path(what).exists()):
        overrides = [*(parsed.get("changes") or [])]
        if (
            what in shipped.described()
            and "data.path" not in " ".join(overrides)
            and "path" not in load_data(what)
        ):
            overrides.append("data.path=my-texts")
        if not any(o.startswith(("objective=deshuffle", "name=")) for o in overrides):
            load_recipe(what, overrides)


def load_data(name: str) -> dict[str, Any]:
    data: dict[str, Any] = tomllib.loads(shipped.path_of(name).read_text(encoding="utf-8"))["data"]
    return data if data.get("source") != "python_library" else {"path": ""}


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page: str) -> None:
    """Files that are linked are there, and so are the headings."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page} links to {target}, which is not there"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page} links to {target}, and there is no such heading"


def anchors(path: Path) -> set[str]:
    """The names that headings have: given ones, and lower case, no punctuation, blanks as hyphens."""
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = re.findall(r'<a (?:id|name)="([^"]+)"', text)
    return {*named, *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)}


@pytest.mark.parametrize("page", PAGES)
def test_no_block_goes_unchecked(page: str) -> None:
    """Languages that nothing here reads are not used; so no snippet can rot unseen."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"^```(\w*)", text, re.MULTILINE)) <= CHECKED


@pytest.mark.parametrize("maker", ["make_recipe_page", "make_models_table"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_are_as_they_would_be_written_now(language: str, maker: str) -> None:
    """From the settings themselves, and from what objectives require and models give."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        made = importlib.import_module(maker)
    finally:
        sys.path.remove(str(ROOT / "docs"))
    written = made.path_of(language).read_text(encoding="utf-8")
    assert written == made.page(language), f"run: python docs/{maker}.py"
