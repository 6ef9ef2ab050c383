"""What the command line says of figures, in lines for people."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telos.run import Run

__all__ = ["answer_lines", "classified_lines", "measure_line", "score_lines", "summary"]


def summary(run: "Run", figures: dict[str, Any]) -> str:
    path = run.folder / "samples.txt"  # not there where the model says no tokens
    samples = ["", path.read_text(encoding="utf-8").rstrip()] if path.exists() else []
    scores = figures["evaluation"]["test"]
    return "\n".join([*samples, *score_lines(scores), f"Report: {run.folder / 'report.html'}"])


def measure_line(key: str, value: Any) -> str:
    """A row of the doctor's table; bytes, which the key ends in, as GiB."""
    name = key.removesuffix("_bytes")
    shown = value if name == key else f"{value / 2**30:.1f} GiB" if value else "unknown"
    return f"{name.replace('_', ' '):18} {shown}"


def score_lines(figures: dict[str, Any]) -> list[str]:
    """The figures of a split as a table for people, a model's bits per byte beside those of compressors."""
    if "unavailable" in figures:
        return [f"No figures: {figures['unavailable']}"]
    lines = [
        f"{figures['split']} split: {figures['documents']:,} documents, {figures['bytes']:,} bytes, "
        f"{figures['tokens']:,} tokens; "
        f"window {figures['window']}, stride {figures['stride']}; weights of step {figures['step']}",
    ]
    if figures["tokens"]:
        lines += [
            f"{'loss':34} {figures['loss']:8.4f} nats per token ({figures['kind']})",
            f"{'perplexity':34} {figures['perplexity'] or float('inf'):8.2f} per token ({figures['kind']})",
        ]
    else:
        lines += [
            f"{f'loss of {term}':34} {x:8.4f} nats per question" for term, x in figures["terms"].items()
        ]
    if figures["bits_per_byte"] is not None:
        lines.append(f"{'bits per byte':34} {figures['bits_per_byte']:8.4f}")
    known = figures["bits_per_byte"] is not None  # else there is nothing to compare with
    compression = (figures.get("compression") or {}) if known else {}
    for key, what in _COMPRESSORS.items():
        if key in compression:
            lines.append(f"{what:34} {compression[key]:8.4f} bits per byte")
    if "classification" in figures:
        lines += classified_lines(figures["classification"])
    if "pairs" in figures:
        told = f"{figures['pairs']['sentences']:,} texts of it answered, as noted when training ended"
        lines += [told, *answer_lines(figures["pairs"])]
    return lines + [f"Note: {note}" for note in figures.get("notes", ())]


def classified_lines(figures: dict[str, Any]) -> list[str]:
    """The figures of a classifier for people: shares with their intervals, and what was taken for what."""
    calibration, labels = figures["calibration"], figures["labels"]
    rows = [("accuracy", figures["accuracy"]), ("macro-F1", figures["macro_f1"])]
    rows.append((f"calibration error, {calibration['bins']} bins", calibration["ece_after"]))
    rows.append(("  without a temperature", calibration["ece"]))
    if figures["threshold"]:
        rows.append((f"answered, with {figures['threshold']:g} or more", figures["answered"]))
        rows.append(("  right of these", figures["right_where_answered"]))
    for name, each in figures["classes"].items():
        rows += [(f"precision of {name}", each["precision"]), (f"recall of {name}", each["recall"])]
    width = max(8, *(len(name) for name in labels))
    unlabelled = f", {figures['unlabelled']:,} without a class" if figures["unlabelled"] else ""
    return [
        f"{figures['texts']:,} texts{unlabelled}; commonest class {figures['majority']:.1%}; "
        f"temperature {calibration['temperature']:.3f}",
        *(_interval_line(name, interval) for name, interval in rows),
        "right (rows) and said (columns)",
        " ".join(f"{name:>{width}}" for name in ("", *labels)),
        *(
            " ".join(f"{cell:>{width}}" for cell in (name, *row))
            for name, row in zip(labels, figures["confusion"], strict=True)
        ),
        *(f"Note: {note}" for note in figures["notes"]),
    ]


def answer_lines(table: dict[str, Any]) -> list[str]:
    """The figures of answers beside their references, as of translations, for people."""
    lines = []
    for name in ("bleu", "chrf"):
        each = table[name]
        sure = "" if each["low"] is None else f" ({each['low']:.1f} … {each['high']:.1f})"
        lines.append(f"{name.upper() if name == 'bleu' else 'chrF':34} {each['score']:8.2f}{sure}")
        lines.append(f"{'':34} {each['signature']}")
    exact = table["exact"]
    lines.append(f"{'exact':34} {exact['value']:8.1%} ({exact['low']:.1%} … {exact['high']:.1%})")
    lines.append(f"{'sentences, length ratio':34} {table['sentences']:8,} {table['length_ratio']:.3f}")
    faults = ", ".join(f"{count} {name}" for name, count in table["faults"].items() if count) or "none"
    lines.append(f"{'faults':34} {faults}")
    for each in table["by_length"]:
        what = f"chrF, up to {each['characters']} characters"
        lines.append(f"{what:34} {each['chrf']:8.2f}")
    return lines


def _interval_line(name: str, interval: dict[str, float] | None) -> str:
    if interval is None:
        return f"{name:34}        –"
    return f"{name:34} {interval['value']:8.1%}   {interval['low']:.1%} – {interval['high']:.1%}"


_COMPRESSORS = {
    "lzma_alone": "  raw LZMA2 -9, each file alone",
    "gzip_alone": "  gzip -9, each file alone",
    "lzma_together": "  raw LZMA2 -9, all files together",
    "gzip_together": "  gzip -9, all files together",
}
