"""What is documented is run. The conventions that every page of the documentation keeps:

- a ```python block is executed: those of a page one after the other, in one namespace, in an empty folder
  that holds `my-texts/`;
- a ```python block after `<!-- file: src/telos/PACKAGE/NAME.py -->` is the file of a new member of an open
  set: it is saved where `find` sees it as long as the page is run;
- a ```toml block is a recipe, read strictly; where it names no text, `data.path` is added;
- a ```console block holds commands: `telos …` is parsed by the command line itself, its overrides are laid
  over a recipe and read; `make …` must be a target; anything else is not allowed there;
- everything else (output, pictures, pseudo-code) is a ```text block;
- links between pages lead to files, and to headings, that are there;
- docs/zh/ has a page for each page of docs/, but for NOT_TRANSLATED, with the same number of sections;
- on the pages of troubleshooting, code of more than one word is part of a message that the program says.
"""

import ast
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer

import telos
from telos import errors, models, objectives, optim
from telos.config import override, read, read_toml
from telos.data import sources
from telos.find import names
from telos.recipe import Recipe

ROOT = Path(__file__).parents[1]
ABOVE = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md")
PAGES = [ROOT / name for name in ABOVE] + sorted((ROOT / "docs").rglob("*.md"))
NOT_TRANSLATED = {"architecture.md", "glossary.md"}
"""The first is for those who change the program, the second is in both languages."""
LANGUAGES = {"python", "toml", "console", "text"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"<!-- file: (\S+) -->\n$")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    file: str
    """Where it is to be saved, if the page says so."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        file = FILE.search(before)
        found.append(Block(match[1], match[2], before.count("\n") + 2, file[1] if file else ""))
    return [block for block in found if not languages or block.language in languages]


def having(*languages: str) -> Any:
    """The pages that have such blocks."""
    return pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, *languages)], ids=name_of)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("\n```") + text.startswith("```") == 2 * len(blocks(page)), (
        "a fence is indented or not closed"
    )
    for block in blocks(page):
        assert block.language in LANGUAGES, (
            f"line {block.line}: a block of {block.language or 'no language'!r}"
        )


# ---- python


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a little text in it, which is where the page is run."""
    texts = tmp_path / "my-texts"
    texts.mkdir()
    for place, page in enumerate(sorted((ROOT / "docs").glob("*.md"))):
        (texts / f"{place:02}.txt").write_text(page.read_text(encoding="utf-8")[:4000], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@having("python")
def test_python_blocks_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, folder, monkeypatch)


def run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        if block.file:
            save(block, folder, monkeypatch)
        else:
            code = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
            exec(compile(code, str(page), "exec"), space)
    return space


def save(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block as a file of an open set, until the test is over."""
    *_, package, file = Path(block.file).parts
    module: ModuleType = sys.modules[f"telos.{package}"]
    beside = folder / package
    beside.mkdir(exist_ok=True)
    (beside / file).write_text(block.text, encoding="utf-8")
    monkeypatch.setattr(module, "__path__", [*module.__path__, str(beside)])
    monkeypatch.delitem(sys.modules, f"{module.__name__}.{Path(file).stem}", raising=False)


@pytest.fixture
def new_objective(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the objective that CONTRIBUTING.md adds, as long as it is there."""
    (block,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if block.file]
    save(block, folder, monkeypatch)
    name = Path(block.file).stem
    yield name
    sys.modules.pop(f"telos.objectives.{name}", None)


def test_the_objective_that_contributing_adds_keeps_the_contract(new_objective: str, folder: Path) -> None:
    from tests.contract.objective_checks import CHECKS
    from tests.contract.world import make_objective

    assert new_objective in names(objectives)
    for check in CHECKS:
        check(make_objective(new_objective), folder / check.__name__)


def test_the_objective_that_contributing_adds_trains(new_objective: str, folder: Path) -> None:
    recipe = read(Recipe, small({"objective": new_objective, "data": {"path": "my-texts"}}))
    run = telos.fit(recipe, folder / "runs")
    assert (run.folder / "evaluation.json").is_file()


def small(table: dict[str, Any]) -> dict[str, Any]:
    return override(
        {
            "tokenizer": {"size": 300},
            "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
            **table,
        },
        [
            "train.budget.steps=2",
            "train.window=16",
            "train.batch=4",
            "generate.length=5",
            "train.watch.log.tensorboard=false",
        ],
    )


# ---- toml


@having("toml")
def test_toml_blocks_are_recipes(page: Path) -> None:
    for block in blocks(page, "toml"):
        given = tomllib.loads(block.text)
        if "train" in given:
            given["train"].setdefault("budget", {"epochs": 1})
        if "source" not in given.setdefault("data", {}):
            given["data"].setdefault("path", "my-texts")
        read(Recipe, given, f"{name_of(page)}:{block.line}")


# ---- console


def commands(page: Path) -> list[tuple[int, list[str]]]:
    found = []
    for block in blocks(page, "console"):
        text = block.text.replace("\\\n", " ")
        found += [
            (block.line, shlex.split(line, comments=True)) for line in text.splitlines() if line.strip()
        ]
    return found


@having("console")
def test_console_blocks_are_commands(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line, (program, *words) in commands(page):
        if program == "make":
            assert set(words) <= set(targets), f"line {line}: make {words}: there are {targets}"
        else:
            assert program == "telos", f"line {line}: {program} is not telos or make"
            check_telos(words, line)


def check_telos(words: list[str], line: int) -> None:
    from telos.cli import app

    group = typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        group.make_context("telos", list(words), resilient_parsing=True)
        return
    command = group.get_command(None, words[0])  # type: ignore[attr-defined,arg-type]
    assert command is not None, f"line {line}: there is no telos {words[0]}"
    try:
        context = command.make_context(words[0], words[1:])
    except typer.Exit:  # --help
        return
    check_overrides(context.params, line)


def check_overrides(given: dict[str, Any], line: int) -> None:
    """The overrides suit the recipe that is named, or the smallest there is."""
    table: dict[str, Any] = {}
    if (shipped := ROOT / "recipes" / f"{Path(str(given.get('what', ''))).stem}.toml").is_file():
        table = read_toml(shipped)
    changed = override(table, given.get("changes") or [])
    changed = override(changed, [f"generate.{setting}" for setting in given.get("settings") or []])
    if "source" not in changed.setdefault("data", {}):
        changed["data"].setdefault("path", "my-texts")
    objective = changed.get("objective")
    if objective in promised():
        del changed["objective"]
    read(Recipe, changed, f"line {line}")


def promised() -> set[str]:
    """The objectives that a page adds to the open set."""
    return {Path(block.file).stem for page in PAGES for block in blocks(page, "python") if block.file}


# ---- links, translations, completeness


def headings(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, no punctuation, hyphens for blanks; and those written out."""
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}
    return made | set(re.findall(r'<a id="([^"]+)">', page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target}: there is no such file"
        assert linked.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert not anchor or anchor in anchors(linked), (
            f"{target}: no such heading; there are {sorted(anchors(linked))}"
        )


def test_every_page_is_translated() -> None:
    english = {page.name for page in (ROOT / "docs").glob("*.md")} - NOT_TRANSLATED
    assert {page.name for page in (ROOT / "docs" / "zh").glob("*.md")} == english


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "zh").glob("*.md")), ids=name_of)
def test_a_translation_has_the_same_sections(page: Path) -> None:
    assert len(headings(page)) == len(headings(ROOT / "docs" / page.name))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("index.md")), ids=name_of)
def test_the_contents_name_every_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for other in (ROOT / "docs").glob("*.md"):
        assert other.name == "index.md" or f"{other.name})" in text, f"{other.name} is not among the contents"


@pytest.mark.parametrize(
    ("page", "package"),
    [("objectives.md", objectives), ("models.md", models), ("data.md", sources), ("training.md", optim)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
@pytest.mark.parametrize("folder_of", ["docs", "docs/zh"])
def test_every_member_of_an_open_set_is_documented(page: str, package: ModuleType, folder_of: str) -> None:
    text = (ROOT / folder_of / page).read_text(encoding="utf-8")
    for name in names(package):
        assert f"`{name}`" in text, f"{package.__name__}.{name} is not on {folder_of}/{page}"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_reference_of_settings_is_as_the_classes_say(language: str) -> None:
    """`python docs/make_recipe_page.py` writes it anew."""
    path = ROOT / "docs" / "make_recipe_page.py"
    spec = importlib.util.spec_from_file_location("make_recipe_page", path)
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.path_of(language).read_text(encoding="utf-8") == maker.page(language), (
        "run python docs/make_recipe_page.py"
    )


def test_the_licence_is_apache_2() -> None:
    import hashlib

    official = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == official


def test_errors_on_the_page_of_troubleshooting_are_those_that_there_are() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for name in errors.__all__:
        assert name in text, f"{name} is not explained"


CODE = re.compile(r"`([^`\n]+)`")


def said_by_the_program() -> str:
    """Every constant piece of text in the source, and what pydantic says itself."""
    found = ["Input should be"]
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\n".join(found)


@pytest.mark.parametrize("page", ["docs/troubleshooting.md", "docs/zh/troubleshooting.md"])
def test_every_message_on_the_page_of_troubleshooting_is_one_that_the_program_says(page: str) -> None:
    text, program = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8")), said_by_the_program()
    messages = [code for code in CODE.findall(text) if " " in code.strip() and " = " not in code]
    messages = [code for code in messages if not code.startswith(("telos ", "iconv "))]
    assert len(messages) > 20
    for message in messages:
        assert message in program, f"nothing in src says {message!r}"
