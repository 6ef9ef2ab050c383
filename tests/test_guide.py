"""The guide is whole: every page is translated, every member has its row, every message is one that is said,
and the objective that CONTRIBUTING.md adds keeps the contract of objectives."""

import ast
import gzip
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import telos
from telos import errors, models, objectives, optim
from telos.config import override, read
from telos.data import filters, sources
from telos.data.prepare import prepare
from telos.data.settings import DataSettings
from telos.find import names
from telos.recipe import Recipe
from telos.tokenizer import TokenizerSettings
from tests.contract import test_sources
from tests.contract.objective_checks import CHECKS
from tests.contract.world import make_objective
from tests.small import write_texts

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOT_TRANSLATED = {"architecture.md", "glossary.md"}
"""The first is for those who change the program, the second is in both languages."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
TINY = [
    "tokenizer.size=300",
    'model={name="decoder", width=16, depth=1, heads=2}',
    "train.window=16",
    "train.batch=4",
    "train.budget.steps=2",
    "generate.length=5",
    "train.watch.log.tensorboard=false",
]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# ---- the objective and the source that CONTRIBUTING.md adds


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the objective, whose file lies where `find` sees it for as long as the test lasts."""
    yield from add_member(objectives, tmp_path, monkeypatch)


@pytest.fixture
def added_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same of the source."""
    yield from add_member(sources, tmp_path, monkeypatch)


def add_member(package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    place = re.escape(package.__name__.replace(".", "/"))
    found = re.search(rf"<!-- file: src/{place}/(\w+)\.py -->\n```python\n(.*?)^```", text, re.M | re.S)
    assert found, f"CONTRIBUTING.md shows no file of {package.__name__}"
    folder = tmp_path / "members"
    folder.mkdir()
    (folder / f"{found[1]}.py").write_text(found[2], encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"{package.__name__}.{found[1]}", raising=False)
    yield found[1]
    sys.modules.pop(f"{package.__name__}.{found[1]}", None)


def test_the_objective_that_contributing_adds_keeps_the_contract(added: str, tmp_path: Path) -> None:
    assert added in names(objectives)
    for check in CHECKS:
        check(make_objective(added), tmp_path / check.__name__)


def test_the_objective_that_contributing_adds_trains(added: str, tmp_path: Path) -> None:
    write_texts(tmp_path / "my-texts")
    given = {"name": "new", "objective": added, "data": {"path": str(tmp_path / "my-texts")}}
    run = telos.fit(read(Recipe, override(given, TINY)), tmp_path / "runs")
    assert run.figures()["evaluation"]["test"]["kind"] == "pseudo"
    assert run.figures()["evaluation"]["test"]["bits_per_byte"] is None


def cue(text: str) -> str:
    return f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n\n"


def test_the_source_that_contributing_adds_keeps_the_contract(
    added_source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, texts: tuple[str, ...]) -> None:
        path.mkdir()
        for number, text in enumerate(texts):
            (path / f"{number}.srt").write_text(cue(text), encoding="utf-8")

    lines = tuple(" ".join(text.split()) for text in test_sources.DOCUMENTS)
    monkeypatch.setattr(test_sources, "DOCUMENTS", lines)  # a cue's white space at the edges is no text
    monkeypatch.setitem(test_sources.WRITERS, added_source, write)
    test_sources.test_it_reads_files_or_brings_its_own(added_source)
    for check in (
        test_sources.test_every_text_comes_back_in_order,
        test_sources.test_ids_tell_documents_apart_within_a_file,
        test_sources.test_an_empty_file_holds_nothing_or_is_refused,
        test_sources.test_rubbish_is_named_or_kept_never_dropped_in_silence,
        test_sources.test_compressed_files_say_the_same,
    ):
        (tmp_path / check.__name__).mkdir()
        check(added_source, tmp_path / check.__name__)


def test_the_source_that_contributing_adds_is_prepared(added_source: str, tmp_path: Path) -> None:
    """Beside files of another format, compressed."""
    (tmp_path / "texts").mkdir()
    for i in range(40):
        said = cue(f"床前明月光 and row {i}").encode()
        (tmp_path / "texts" / f"{i}.srt.gz").write_bytes(gzip.compress(said))
    (tmp_path / "texts" / "b.jsonl").write_text('{"body": "plain"}\n', encoding="utf-8")
    data = DataSettings(path=tmp_path / "texts", text_key="body")
    prepared = prepare(data, TokenizerSettings(kind="byte"), tmp_path / "runs")
    shards = [prepared.shards(split) for split in ("train", "validation", "test")]
    texts = {prepared.tokenizer.decode(s.document(i)) for s in shards for i in range(len(s))}
    assert texts == {"plain", *(f"床前明月光 and row {i}" for i in range(40))}


# ---- whole


def test_every_page_is_translated() -> None:
    english = {page.name for page in DOCS.glob("*.md")} - NOT_TRANSLATED
    assert {page.name for page in (DOCS / "zh").glob("*.md")} == english


@pytest.mark.parametrize("page", sorted(page.name for page in (DOCS / "zh").glob("*.md")))
def test_a_translation_has_the_same_sections_and_the_same_recipes(page: str) -> None:
    for pattern in (r"^#+ ", r"^```toml", r"^```python", r"^```console"):
        count = [
            len(re.findall(pattern, (folder / page).read_text(encoding="utf-8"), re.M))
            for folder in (DOCS, DOCS / "zh")
        ]
        if pattern != r"^```toml":  # a Chinese page may have one for Chinese text
            assert count[0] == count[1], f"{pattern}: {count}"
        assert count[0] <= count[1]


@pytest.mark.parametrize("index", ["index.md", "zh/index.md"])
def test_the_contents_name_every_page(index: str) -> None:
    text = (DOCS / index).read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"{page.name})" in text, f"{page.name} is not among the contents"


@pytest.mark.parametrize("language", ["", "zh"])
@pytest.mark.parametrize(
    ("page", "package"),
    [
        ("objectives.md", objectives),
        ("models.md", models),
        ("sources.md", sources),
        ("filters.md", filters),
        ("training.md", optim),
    ],
)
def test_every_member_of_an_open_set_has_its_row(page: str, package: ModuleType, language: str) -> None:
    text = (DOCS / language / page).read_text(encoding="utf-8")
    for name in names(package):
        assert re.search(rf"^\| (\[)?`{name}`", text, re.M), f"{package.__name__}.{name} has no row on {page}"


def test_every_command_has_its_row() -> None:
    import typer

    from telos.cli import app

    for page in (DOCS / "cli.md", DOCS / "zh" / "cli.md"):
        text = page.read_text(encoding="utf-8")
        for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
            inside = getattr(command, "commands", None)
            for full in [f"{name} {inner}" for inner in inside] if inside else [name]:
                assert f"| `{full}` |" in text, f"telos {full} has no row on {page}"


@pytest.mark.parametrize("page", ["recipe.md", "zh/recipe.md"])
def test_every_recipe_has_its_row(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for path in (ROOT / "recipes").glob("*.toml"):
        assert f"| `{path.stem}` |" in text, f"recipes/{path.name} has no row on {page}"


def test_every_setting_has_a_description_in_chinese() -> None:
    """None of those in zh/settings.toml is of a class or a setting that is gone, either."""
    import tomllib

    from tests.recipes_tree import settings_classes

    described = tomllib.loads((DOCS / "zh" / "settings.toml").read_text(encoding="utf-8"))
    here = {kind.__name__: kind for kind in settings_classes(Recipe) if kind.__module__.startswith("telos.")}
    for name, settings in described.items():
        assert name in here, f"[{name}]: there is no such class of settings"
        gone = set(settings) - {"class"} - set(here[name].model_fields)
        assert not gone, f"[{name}]: there is no setting {gone}"
    missing = {
        f"{name}.{field}"
        for name, kind in here.items()
        if name in described
        for field in kind.model_fields
        if field not in described[name]
    }
    assert not missing, f"zh/settings.toml lacks {sorted(missing)}"


# ---- true


def said_by_the_program() -> str:
    """Every constant piece of text in the source, and what pydantic says itself."""
    found = ["Input should be"]
    for path in (ROOT / "src").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found += [
            node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\n".join(found)


@pytest.mark.parametrize("page", ["troubleshooting.md", "zh/troubleshooting.md"])
def test_every_message_on_the_page_of_troubleshooting_is_one_that_the_program_says(page: str) -> None:
    """There, code of more than one word is part of a message."""
    text, program = prose(DOCS / page), said_by_the_program()
    spans = [code for code in CODE.findall(text) if " " in code.strip() and " = " not in code]
    messages = [code for code in spans if not code.startswith(("telos ", "iconv "))]
    assert len(messages) > 20
    unsaid = [message for message in messages if message not in program]
    assert not unsaid, f"nothing in src says {unsaid}"


def test_the_page_of_troubleshooting_explains_every_kind_of_error() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    kinds = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert len(kinds) >= 5
    for name in kinds:
        assert name in text


def test_the_licence_is_apache_2() -> None:
    official = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == official


def test_the_changelog_names_this_version() -> None:
    assert f"## {telos.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
