"""What `telos generate` does with samples: shows them, writes them down, counts them, looks them up; and the
loop that keeps asking for prompts."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from telos.commands._shared import printed
from telos.errors import TelosError

if TYPE_CHECKING:
    from telos.evaluate.copied import Copied
    from telos.generate._rows import Sample
    from telos.run import Run

__all__ = ["Wanted", "talk", "write", "write_one"]

Prompts = Iterable[str | tuple[str, str]]


class Wanted(NamedTuple):
    """What is to be done with the samples."""

    settings: Sequence[str]
    seed: int = 0
    out: Path | None = None
    statistics: bool = False
    copied: bool = False
    as_json: bool = False


def write(run: "Run", prompts: Prompts, wanted: Wanted) -> None:
    """Let the model go on from the prompts: one sample after the other as JSON lines into a file, or onto
    standard output for people, or all as JSON."""
    counted = _Counted(run, wanted)
    samples = counted.through(run.generated(prompts, wanted.settings, seed=wanted.seed))
    if wanted.out is not None:
        with wanted.out.open("w", encoding="utf-8", newline="\n") as file:
            for record in samples:
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
                file.flush()
        found = counted.statistics()
        lines = [f"{counted.number} samples: {wanted.out}", *_statistics_lines(found)]
        figures = {"out": str(wanted.out), "samples": counted.number, **found}
        printed(figures, "\n".join(lines), wanted.as_json)
    elif wanted.as_json:
        records = list(samples)
        printed({"samples": records, **counted.statistics()} if wanted.statistics else records, "", True)
    else:
        for place, record in enumerate(samples):
            print("\n" * (place > 0) + record["prompt"] + record["text"] + record["after"], flush=True)
            _show_copied(record)
        _show_statistics(counted)


def write_one(run: "Run", prompt: str | tuple[str, str], wanted: Wanted) -> None:
    """A single sample, shown as it is written."""
    before, after = (prompt, "") if isinstance(prompt, str) else prompt
    print(before, end="", flush=True)
    counted = _Counted(run, wanted)
    samples = run.generated([prompt], wanted.settings, seed=wanted.seed, stream=_shown)
    for record in counted.through(samples):
        print(after)
        _show_copied(record)
    _show_statistics(counted)


def talk(run: "Run", wanted: Wanted) -> None:
    """Ask for a prompt, show what the model makes of it as it is written, and ask again: a line each, from a
    terminal or from anything else. Ctrl-C stops a text, Ctrl-D, or the end of the lines, ends. Each prompt
    gets the next seed, so that the same one twice gives two texts."""
    several = run.generate_settings(wanted.settings).samples > 1
    run.network  # noqa: B018  so that the first answer does not wait for it
    for turn, prompt in enumerate(_asked()):
        now = wanted._replace(seed=wanted.seed + turn)
        try:
            if wanted.as_json:
                for sample in run.generated([prompt], now.settings, seed=now.seed):
                    print(json.dumps(asdict(sample), ensure_ascii=False), flush=True)
            elif several:
                write(run, [prompt], now)
            else:
                write_one(run, prompt, now)
        except KeyboardInterrupt:
            print(flush=True)
        except TelosError as error:
            print(f"\ntelos: {error}", file=sys.stderr)


def _asked() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from (line.removesuffix("\n") for line in sys.stdin)
        return
    import readline  # noqa: F401  lines can be edited and had back

    print("A text begins with what you write. Ctrl-C stops a text, Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return


def _shown(index: int, text: str) -> None:
    print(text, end="", flush=True)


class _Counted:
    """Samples on their way, as plain data: what is known of each beside its text, and what is counted."""

    def __init__(self, run: "Run", wanted: Wanted) -> None:
        self._run, self._wanted, self.number = run, wanted, 0
        self._cut = self._formed = 0
        self._texts: list[tuple[str, int, float]] = []
        self._form = run.generate_settings(wanted.settings).constraint.form

    def through(self, samples: "Iterable[Sample]") -> Iterator[dict[str, Any]]:
        for sample in samples:
            record = asdict(sample)
            if self._wanted.copied:
                found = self._run.copies.find(sample.text)
                record["copied"] = found.table()
                _warn(found, self.number)
            if self._wanted.statistics:
                self._count(sample)
            self.number += 1
            yield record

    def _count(self, sample: "Sample") -> None:
        from telos.generate._forms import check_form

        self._texts.append((sample.text, len(sample.ids), -sample.logprob))
        self._cut += sample.finished == "length"
        if self._form:
            self._formed += not check_form(sample.prompt + sample.text, self._form)

    def statistics(self) -> dict[str, Any]:
        """What was counted, as plain data; nothing where nothing was to be."""
        from telos.evaluate.diversity import diversity

        if not self._wanted.statistics:
            return {}
        texts, tokens, nats = ([each[part] for each in self._texts] for part in range(3))
        form = {"in_form": self._formed} if self._form else {}
        return {"statistics": {**diversity(texts, tokens, nats).table(), "cut": self._cut, **form}}


def _show_statistics(counted: _Counted) -> None:
    """Under all samples, what was counted."""
    if lines := _statistics_lines(counted.statistics()):
        print("\n".join(["", *lines]))


def _statistics_lines(figures: dict[str, Any]) -> list[str]:
    if (found := figures.get("statistics")) is None:
        return []
    rows = [
        ("samples", f"{found['samples']:,}"),
        ("cut at the length asked for", f"{found['cut']:,}"),
        *([("in form", f"{found['in_form']:,}")] if "in_form" in found else []),
        ("mean length, words", f"{found['length']:.1f}"),
        ("mean length, tokens", f"{found['tokens']:.1f}"),
        *((f"distinct-{n}", _figure(x)) for n, x in found["distinct"].items()),
        *((f"repetition-{n}", _figure(x)) for n, x in found["repetition"].items()),
        ("self-BLEU", _figure(found["self_bleu"], 1)),
        ("perplexity under the model", _figure(found["perplexity"], 2)),
    ]
    return [f"{name:34} {value:>10}" for name, value in rows]


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _show_copied(record: dict[str, Any]) -> None:
    """Under a sample, what of it stands in the training text."""
    found = record.get("copied")
    if found is None:
        return
    if not found["tokens"]:
        print("[nothing is copied from the training text]", flush=True)
        return
    where = f"document {found['document']}, token {found['at']}"
    print(
        f"[{found['share']:.0%} copied; the longest stretch has {found['tokens']} tokens "
        f"({found['characters']} characters), {where}: {found['excerpt']!r}]",
        flush=True,
    )


def _warn(found: "Copied", number: int) -> None:
    if found.long:
        print(
            f"Warning: sample {number + 1} repeats {found.tokens} tokens of the training text word for word "
            f"(document {found.document}).",
            file=sys.stderr,
        )
