"""`telos translate`: texts through a model that was trained on pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from telos.commands._shared import Device, Json, RunFolder, printed, run_at
from telos.errors import ConfigError, DataError
from telos.said import answer_lines

__all__ = ["translate"]

BATCH = 512
"""Lines of a file that are translated before they are written."""


def translate(
    run: RunFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to translate.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file with a text in each line; - for standard input.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the translations there, one in each line.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Right translations, line by line: prints BLEU and chrF.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="With --reference: another system's lines, or another run.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Measure on the pairs of a split in place of texts: test, validation, train.")
    ] = "",
    source: Annotated[str, typer.Option(help="With --split: the pairs of this source alone.")] = "",
    attention: Annotated[
        Path | None, typer.Option(help="Draw where the model looked, of one text: picture.svg or .png.")
    ] = None,
    best: Annotated[int, typer.Option("--best", "-n", help="How many translations of each text.", min=1)] = 1,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the settings of generation.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Translate texts; or measure how well: BLEU and chrF.

    Example: telos translate runs/multi30k "Ein Mann fährt Rad." --set beam.width=8
    """
    from telos.tasks import translation

    asked = [bool(texts), bool(file), bool(split)]
    _check(asked, figures=bool(reference or split), best=best, against=against, reference=reference)
    if source and not split:
        raise ConfigError("--source is a part of a split: give --split too.")
    opened, given = run_at(run, device), settings or []
    if split:
        figures = translation.evaluate(opened, split, source=source, overrides=given).table()
        printed(figures, "\n".join(answer_lines(figures)), as_json)
        return
    sources = list(texts or _lines(file))
    if attention:
        translation.picture(opened, sources, attention, overrides=given)
    found = _translated(opened, sources, best, given, aloud=not (out or reference or as_json))
    if out:
        out.write_text("".join(f"{_line(own[0].text)}\n" for own in found), encoding="utf-8")
    if reference:
        _measure(sources, found, reference, against, device, given, as_json)
    elif as_json:
        several = zip(sources, found, strict=True)
        table = [{"text": text, "translations": [each.table() for each in own]} for text, own in several]
        printed(table, "", as_json)


def _check(
    asked: Sequence[bool], *, figures: bool, best: int, against: Path | None, reference: Path | None
) -> None:
    """Options that contradict each other."""
    if list(asked).count(True) != 1:
        raise ConfigError(
            "Give texts to translate, or a file of them (--file), or a split to measure (--split)."
        )
    if figures and best > 1:
        raise ConfigError("figures are of the best translation of each text; leave --best out.")
    if against and not reference:
        raise ConfigError("--against compares with --reference: give that too.")


def _translated(
    run: Any, sources: Sequence[str], best: int, settings: Sequence[str], *, aloud: bool
) -> list[list[Any]]:
    """The translations of each text, printed as they come if `aloud`."""
    from telos.tasks.translation import translate as translated

    found: list[list[Any]] = []
    for at in range(0, len(sources), BATCH):
        part = translated(run, sources[at : at + BATCH], n=best, overrides=settings)
        found += part
        if aloud:
            print("\n".join(line for own in part for line in _said(own, best)), flush=True)
    return found


def _said(own: Sequence[Any], best: int) -> list[str]:
    if best == 1:
        return [_line(own[0].text)]
    return [f"{each.score:8.4f}  {_line(each.text)}" for each in own] + [""]


def _line(text: str) -> str:
    return " ".join(text.splitlines())


def _lines(path: Path | None) -> list[str]:
    """The texts of a file, or of standard input: a line each; an empty one is a text, too."""
    from telos.generate._prompts import read_prompts

    assert path is not None
    found = list(read_prompts(path))
    texts = [each for each in found if isinstance(each, str)]
    if len(texts) < len(found):
        raise DataError(f"{path}: gaps are filled by telos generate; here each line is a text.")
    return texts


def _measure(
    sources: list[str],
    found: Sequence[Sequence[Any]],
    reference: Path,
    against: Path | None,
    device: str,
    settings: Sequence[str],
    as_json: bool,
) -> None:
    from telos.evaluate import translation as measure

    references, ours = _lines(reference), [own[0].text for own in found]
    quality = measure.quality(sources, ours, references)
    table: dict[str, Any] = quality.table()
    lines = answer_lines(table)
    if against:
        others = _other(against, sources, device, settings)
        versus = measure.against(ours, others, references)
        table["against"] = [each.table() for each in versus]
        lines += [
            f"{f'{each.metric} against {against}':34} {each.difference:+8.2f} "
            f"({each.low:+.2f} … {each.high:+.2f}), p = {each.p:.3f}"
            for each in versus
        ]
    printed(table, "\n".join(lines), as_json)


def _other(against: Path, sources: list[str], device: str, settings: Sequence[str]) -> list[str]:
    """The lines of another system: from a file, or from another run."""
    if not against.is_dir():
        return _lines(against)
    from telos.tasks.translation import translate as translated

    return [own[0].text for own in translated(run_at(against, device), sources, overrides=settings)]
