"""The rules of docs/architecture.md, checked on the source itself."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import telos

SOURCE = Path(telos.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
OPEN_SETS = ("objectives", "models", "optim", "data/sources", "export/hf", "evaluate", "generate")
"""Folders whose listing is the registry: nobody else may know a member by its name."""
READERS_OF_THE_ENVIRONMENT = {"cli.py", "commands/serve.py", "doctor.py", "data/engine.py"}
"""`data/engine.py` tells a library in its workers how many threads to take, which the library reads there."""


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at the top or inside a function; `from a import b` counts as a and
    a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


def members(folder: str) -> list[str]:
    return [path.stem for path in sorted((SOURCE / folder).glob("*.py")) if not path.stem.startswith("_")]


def test_layers() -> None:
    """Import contracts of pyproject.toml: layers, and who never imports each other."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=SOURCE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", [*OPEN_SETS[:5], "loop"])
def test_members_of_open_sets_are_known_to_their_own_folder_only(folder: str) -> None:
    """Training, evaluation and generation name no objective, model, optimizer or source; nor does anything
    else."""
    if folder == "loop":
        named = {f"telos.{inside}.{m}" for inside in ("objectives", "models") for m in members(inside)}
        outside = [
            path for path in FILES if name(path).split("/")[0] in ("train", "evaluate", "generate", "explain")
        ]
    else:
        named = {f"telos.{folder.replace('/', '.')}.{m}" for m in members(folder)}
        outside = [path for path in FILES if not name(path).startswith(folder)]
    assert named
    guilty = [
        f"{name(path)} imports {module}" for path in outside for module in imports(path) if module in named
    ]
    assert not guilty


def test_only_training_talks_to_other_processes_of_a_run() -> None:
    guilty = [
        name(p)
        for p in FILES
        for m in imports(p)
        if m.startswith("torch.distributed") and not name(p).startswith("train/")
    ]
    assert not guilty


def test_the_environment_is_read_at_the_edge_only() -> None:
    for path in FILES:
        if name(path) not in READERS_OF_THE_ENVIRONMENT:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
                assert not reads, f"{name(path)}:{node.lineno} reads the environment"


def test_nothing_is_pickled() -> None:
    """Checkpoints and caches hold numbers and JSON only: nothing read from a file is ever executed."""
    banned = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in FILES:
        assert not banned & {module.partition(".")[0] for module in imports(path)}, name(path)
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text and "torch.save(" not in text, name(path)


def test_templates_are_our_own() -> None:
    """Trap 71: pages are made by an engine of templates from files that come with Telos; nothing else is."""
    users = {name(path) for path in FILES if "jinja2" in {m.partition(".")[0] for m in imports(path)}}
    assert users == {"report.py", "compare_page.py"}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text, name(path)
        # a template that is written for others is ours; only transformers fills one in, in its sandbox
        assert "chat_template" not in text or name(path) in ("export/hf/_write.py", "export/hf/_proof.py")
        if name(path) != "data/filters/python.py":  # a user's own function, from a file that the recipe names
            assert not {"eval", "exec", "__import__", "compile"} & called(path), name(path)


def called(path: Path) -> set[str]:
    """Names of functions that a file calls as they are."""
    calls = (
        node.func
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    )
    return {function.id for function in calls if isinstance(function, ast.Name)}


def test_functions_are_short() -> None:
    lengths = dict(pair for path in FILES for pair in functions(path))
    assert statistics.median(lengths.values()) < 15
    assert {where: n for where, n in lengths.items() if n > 60} == {}


def test_files_are_short() -> None:
    assert {name(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) >= 500} == {}


def test_settings_have_at_most_eight_fields() -> None:
    from telos.recipe import Recipe
    from tests.recipes_tree import settings_classes

    own = {
        kind: kind.model_fields.keys() - kind.__base__.model_fields.keys()
        for kind in settings_classes(Recipe)
    }
    large = {kind.__name__: len(fields) for kind, fields in own.items() if len(fields) > 8}
    assert set(large) <= {"Recipe"}, "nest what belongs together"


def test_public_names_are_what_is_exported() -> None:
    assert sorted(telos.__all__) == telos.__all__
    for public in telos.__all__:
        assert getattr(telos, public) is not None
    assert set(telos.__all__) <= set(dir(telos))
    with pytest.raises(AttributeError, match="load_recip"):
        telos.load_recip  # noqa: B018


def test_import_is_quick() -> None:
    """`import telos` and the command line load neither torch nor anything else that is heavy."""
    heavy = ("torch", "matplotlib", "tensorboard", "pyarrow", "wandb", "mlflow", "tokenizers", "transformers")
    code = f"import sys, telos, telos.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
