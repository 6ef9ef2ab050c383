"""The contract of filters, checked on every file of `src/telos/data/filters/`."""

import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telos.batch import Document
from telos.config import member, read
from telos.data import filters
from telos.data.filters._base import Filter
from telos.find import find, names
from tests.contract.world import DOCUMENTS

NAMES = names(filters)
DOCS = Path(__file__).parents[2] / "docs"
ODD = (
    "",
    " ",
    "\n\n\n",
    "\0",
    "\0" * 100,
    "\ud800",
    "a\udcff\ud800b " * 40,
    "\ufeff",
    "x" * 1_000_000,
    " " * 1_000_000,
    "\n" * 1_000_000,
    "字" * 1_000_000,
    "a " * 300_000,
    "字\n" * 300_000,
    "👨‍👩‍👧‍👦🏳️‍🌈" * 50,
    "e\u0301" * 500,
    "\U0010ffff\ue000\ufffd",
    "def f(x):\n    return {'a': [1, 2, 3]}\n" * 3,
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "\u2028\u2029\x85\x1c\x0b",
    "1",
    "…",
    "#",
    "- ",
)
"""Texts that a filter may be given, though cleaning would leave few of them."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What filters need that cannot be made without settings; a filter without a line here needs none."""
    folder = tmp_path_factory.mktemp("filters")
    rng = random.Random(0)
    words = [
        "we",
        "saw",
        "the",
        "old",
        "house",
        "by",
        "river",
        "and",
        "went",
        "to",
        "sea",
        "我们",
        "的",
        "书",
    ]
    (folder / "good.txt").write_text(" ".join(rng.choice(words) for _ in range(8000)), encoding="utf-8")
    (folder / "rule.py").write_text("def keep(text):\n    return len(text) % 2 == 0 or 'odd'\n")
    return {
        "perplexity": {"reference": str(folder / "good.txt")},
        "python": {"file": str(folder / "rule.py")},
    }


def made(name: str, world: dict[str, dict[str, Any]]) -> Filter:
    return read(find(filters, name, Filter), world.get(name, {}))


def judged(filter: Filter, text: str) -> str | None:
    return filter.judge(Document(text=text, id="a"), text)


def texts() -> tuple[str, ...]:
    return (*DOCUMENTS, *ODD)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("page", ["filters.md", "zh/filters.md"])
def test_it_has_a_row_in_the_table_of_the_docs(name: str, page: str) -> None:
    assert f"| `{name}` |" in (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_any_text_is_judged(name: str, world: Any) -> None:
    """Never an error; `None`, or a reason of this filter, without anything of the document in it."""
    filter = made(name, world)
    filter.ready()
    title = name.replace("_", " ")
    for text in texts():
        verdict = judged(filter, text)
        assert verdict is None or verdict.startswith(f"{title}: "), (text[:20], verdict)
        assert verdict is None or (len(verdict) < 60 and "\n" not in verdict)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), max_size=200))
def test_generated_text_is_judged(name: str, world: Any, text: str) -> None:
    filter = made(name, world)
    assert judged(filter, text) == judged(filter, text)


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_does_not_depend_on_what_came_before(name: str, world: Any) -> None:
    filter = made(name, world)
    order = [*texts()] * 2
    first = {text: judged(filter, text) for text in texts()}
    random.Random(1).shuffle(order)
    assert all(judged(filter, text) == first[text] for text in order)
    assert all(
        judged(filter, str(text.encode("utf-8", "surrogatepass"), "utf-8", "surrogatepass")) == first[text]
        for text in texts()
    )  # another object, equal text


def test_they_say_the_same_in_another_process(world: Any, tmp_path: Path) -> None:
    """Pickled, and with other random hashes of strings."""
    made_here = [made(name, world) for name in NAMES]
    some = [text for text in texts() if len(text) < 10_000]
    wanted = [[judged(filter, text) for text in some] for filter in made_here]
    (tmp_path / "filters").write_bytes(pickle.dumps((made_here, some)))
    code = (
        "import pickle, sys; from telos.batch import Document\n"
        "filters, texts = pickle.load(open(sys.argv[1], 'rb'))\n"
        "found = [[filter.judge(Document(text=t, id='a'), t) for t in texts] for filter in filters]\n"
        "open(sys.argv[1] + '.out', 'wb').write(pickle.dumps(found))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "filters")], check=True)
    assert pickle.loads((tmp_path / "filters.out").read_bytes()) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_written_in_a_recipe_and_read_again(name: str, world: Any) -> None:
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Filter] = TypeAdapter(member(filters, Filter))
    filter = adapter.validate_python({"name": name, **world.get(name, {})})
    assert filter == made(name, world)
    written = adapter.dump_python(filter)
    assert written["name"] == name
    assert adapter.validate_python(written) == filter


@pytest.mark.parametrize("name", NAMES)
def test_a_digest_where_it_depends_on_a_file(name: str, world: Any) -> None:
    filter = made(name, world)
    assert (filter.digest() != "") == (name in world)
    assert filter.digest() == filter.digest()


@pytest.mark.parametrize("name", NAMES)
def test_a_large_document_takes_no_longer_than_it_should(name: str, world: Any) -> None:
    """Trap 54: no text makes a rule quadratic. Two million characters in seconds, whatever they are."""
    import time

    filter = made(name, world)
    filter.ready()
    for text in (
        "a" * 2_000_000,
        " " * 2_000_000,
        "- a...\n" * 300_000,
        "a b c d e f " * 170_000,
        "字。" * 1_000_000,
    ):
        judged(filter, "warm")
        begin = time.process_time()
        judged(filter, text)
        assert time.process_time() - begin < 8, text[:10]
