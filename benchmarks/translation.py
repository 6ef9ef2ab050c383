"""How well do the shipped recipes translate, from scratch on public pairs alone?

    python benchmarks/translation.py [TASK …] [--seeds 0] [--set SETTING=VALUE …] [--label NAME] [--quick]

Tasks: `multi30k-de-en` and `multi30k-en-de`, the 29,000 pairs of Multi30k, tested on test 2016 flickr (and
the others that are there); `tatoeba-zh-en` and `tatoeba-en-zh`, split here so that no sentence of either side
stands in two splits: pairs that share a sentence go to one split together, by a hash of the smallest of them.

Figures of the test set: sacreBLEU and chrF as `telos translate` gives them, cased; and BLEU on lower-cased
text in Moses' tokenisation, with which published figures of Multi30k compare, where sacremoses is installed.
The data is in the folder that TELOS_DATA names. A run that is done is not done again; results lie in
results/translation-DATE.json.
"""

import argparse
import hashlib
import json
import lzma
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import machine
from harness.corpus import data_folder
from harness.whole import whole

HERE = Path(__file__).resolve().parent
TASKS = ("multi30k-de-en", "multi30k-en-de", "tatoeba-zh-en", "tatoeba-en-zh")
TESTS = ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")


class Given(argparse.Namespace):
    """The command line."""

    tasks: list[str]
    seeds: list[int]
    set: list[str]
    label: str
    quick: bool
    root: Path
    out: Path


def main() -> None:
    """Train and measure what is asked for; the result is written after each run."""
    given = _given()
    for task in given.tasks or TASKS:
        for seed in given.seeds:
            found = measure(task, seed, given)
            _store(given.out, f"{task}{given.label and '-' + given.label}", seed, found)
            print(task, seed, json.dumps(_brief(found)), flush=True)


def measure(task: str, seed: int, given: Given) -> dict[str, Any]:
    """One run: trained, and its figures on each test set."""
    from telos.evaluate.translation import quality
    from telos.run import fit, load_recipe
    from telos.tasks.translation import translate
    from telos.train.display import display

    tests, overrides = (_multi30k if task.startswith("multi30k") else _tatoeba)(task, given)
    recipe = "translate-de-en" if task.startswith("multi30k") else "translate-zh-en"
    name = f"{task}{given.label and '-' + given.label}-{seed}"
    settings = [*overrides, *given.set, f"seed={seed}", f"name={name}"]
    begun, worked = time.monotonic(), time.process_time()
    run = whole(fit(load_recipe(recipe, settings), given.root, display=display()))
    trained = {"seconds": time.monotonic() - begun, "processor_seconds": time.process_time() - worked}
    figures = {}
    for test, (sources, references) in tests.items():
        begun = time.monotonic()
        found = [best.text for (best,) in translate(run, sources)]
        scores = quality(sources, found, references).table()
        figures[test] = {
            **scores,
            "moses_lower": _moses(found, references, task),
            "seconds": time.monotonic() - begun,
        }
        figures[test].pop("worst")
    last = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
    about = {"parameters": run.figures().get("machine", {}).get("parameters"), "step": last.get("step")}
    return {**trained, **about, "recipe": recipe, "set": given.set, "tests": figures}


def _multi30k(task: str, given: Given) -> tuple[dict[str, tuple[list[str], list[str]]], list[str]]:
    """The test sets, and the settings of the data."""
    folder = data_folder() / "multi30k-de-en"
    source, target = task.split("-")[1:]
    tests = {}
    for test in TESTS[: 1 if given.quick else None]:
        sides = [folder / f"{test}.{language}" for language in (source, target)]
        if all(side.exists() for side in sides):
            tests[test] = tuple(
                side.read_text(encoding="utf-8").splitlines()[: 20 if given.quick else None] for side in sides
            )
    settings = [
        f"data.pair=['{source}', '{target}']",
        f"data.path={folder}/train.{source}.xz",
        f"data.validation={folder}/val.{source}",
        f"data.test={folder}/test_2016_flickr.{source}",
    ]
    return tests, settings  # type: ignore[return-value]


def _tatoeba(task: str, given: Given) -> tuple[dict[str, tuple[list[str], list[str]]], list[str]]:
    folder = given.root / "tatoeba"
    if not (folder / "test.tsv").exists():
        _split_tatoeba(folder)
    turned = task.endswith("en-zh")
    columns = ["target", "text"] if turned else ["text", "target"]
    lines = (folder / "test.tsv").read_text(encoding="utf-8").splitlines()[: 20 if given.quick else None]
    chinese, english = (list(side) for side in zip(*(line.split("\t") for line in lines), strict=True))
    tests = {"test": (english, chinese) if turned else (chinese, english)}
    settings = [f"data.columns={columns}"]
    settings += [
        f"data.{key}={folder / name}.tsv"
        for key, name in (("path", "train"), ("validation", "valid"), ("test", "test"))
    ]
    return tests, settings


def _split_tatoeba(folder: Path) -> None:
    """Pairs that are joined by a common sentence, on either side, stay together: 90 % train, 5 % each."""
    path = data_folder() / "tatoeba-cmn-eng" / "cmn.txt.xz"
    lines = lzma.decompress(path.read_bytes()).decode("utf-8").splitlines()
    pairs = list(
        dict.fromkeys(
            (chinese.strip(), english.strip())
            for english, chinese, *_ in (line.split("\t") for line in lines)
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for group in _joined(pairs):
        digest = hashlib.blake2b(min(english for _, english in group).encode(), digest_size=8).digest()
        drawn = int.from_bytes(digest, "big") / 2**64
        split = "test" if drawn < 0.05 else "valid" if drawn < 0.1 else "train"
        parts[split] += [f"{chinese}\t{english}\n" for chinese, english in group]
    for name in ("train", "valid", "test"):
        (folder / f"{name}.tsv").write_text("".join(parts[name]), encoding="utf-8")


def _joined(pairs: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Pairs in groups that share no sentence with each other."""
    owner: dict[str, str] = {}

    def root(key: str) -> str:
        while owner.setdefault(key, key) != key:
            owner[key] = owner[owner[key]]
            key = owner[key]
        return key

    for chinese, english in pairs:
        owner[root(f"zh {_plain(chinese)}")] = root(f"en {_plain(english)}")
    groups: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        groups.setdefault(root(f"en {_plain(pair[1])}"), []).append(pair)
    yield from groups.values()


def _plain(text: str) -> str:
    """Letters and digits alone: sentences that differ in nothing else are the same."""
    return "".join(character for character in text.casefold() if character.isalnum())


def _moses(found: Sequence[str], references: Sequence[str], task: str) -> float | None:
    """BLEU on lower-cased text in Moses' tokenisation."""
    try:
        from sacremoses import MosesTokenizer
    except ImportError:
        return None
    from sacrebleu.metrics import BLEU

    if task.endswith("zh"):
        return None
    cut = MosesTokenizer(lang=task.rpartition("-")[2])
    both = [
        [cut.tokenize(text.lower(), return_str=True, escape=False) for text in side]
        for side in (found, references)
    ]
    return float(BLEU(tokenize="none", force=True).corpus_score(both[0], [both[1]]).score)


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    tests = found["tests"].items()
    return {
        "minutes": round(found["seconds"] / 60, 1),
        **{
            test: [round(each["bleu"]["score"], 2), round(each["chrf"]["score"], 2), each["moses_lower"]]
            for test, each in tests
        },
    }


def _store(path: Path, task: str, seed: int, found: dict[str, Any]) -> None:
    """Beside what other runs of the day found."""
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": {}}
    versions = {name: _version(name) for name in ("sacrebleu", "sacremoses")}
    whole |= {
        "date": str(date.today()),
        "revision": machine.revision(),
        "about": machine.described() | versions,
    }
    whole["runs"].setdefault(task, {})[str(seed)] = found
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _given() -> Given:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", choices=[[], *TASKS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", default=[], help="settings laid over the recipe's")
    parser.add_argument("--label", default="", help="of runs with other settings")
    parser.add_argument("--quick", action="store_true", help="see that all runs: two steps, twenty sentences")
    parser.add_argument("--root", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"translation-{date.today()}.json")
    given = parser.parse_args(namespace=Given())
    if given.quick:
        given.set = [
            "train.budget={steps=2}",
            "model.width=32",
            "model.depth=1",
            "tokenizer.size=600",
            *given.set,
        ]
    return given


if __name__ == "__main__":
    main()
