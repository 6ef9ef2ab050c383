"""A run so small that it trains in seconds, through the same doors as a large one."""

import csv
import json
from pathlib import Path
from typing import Any

__all__ = [
    "NARROW",
    "SHRUNK",
    "labelled",
    "last_weights",
    "write_labelled",
    "write_poems",
    "write_talks",
    "write_texts",
]

SHRUNK = (
    "train.window=16",
    "train.batch=4",
    "train.budget={steps=2}",
    "train.compute.precision=float32",
    "train.compute.micro_batch=0",
    "train.watch={evaluate_every=0, checkpoint_every=0, log_every=1, log={tensorboard=false}}",
    "evaluate={window=0, stride=0, batch=8}",
    "generate.length=8",
)
"""Overrides that make any recipe's training small; see `NARROW` for its model."""

NARROW = {
    "decoder": ("model.width=16", "model.depth=1", "model.heads=2"),
    "encoder": ("model.width=16", "model.depth=2", "model.heads=2"),
    "encoder_decoder": ("model.width=16", "model.depth=1", "model.heads=2"),
    "gru": ("model.embedding=8", "model.width=8"),
    "recurrent_encoder_decoder": ("model.embedding=8", "model.width=8"),
}

_LINES = (
    "The {} cat sat on the {} mat, and the dog looked at it for a while.",
    "def {}(x):\n    return x + {}",
    "床前明月光,{}疑是地上霜{}。",
    "In the year {} there was rain, and in the year {} there was none.",
)


def write_texts(folder: Path, number: int = 60, first: int = 0) -> Path:
    """A folder of `number` small text files, no two alike, nor like those of another `first` far away."""
    folder.mkdir(parents=True)
    for index in range(first, first + number):
        lines = [line.format(f"n{index}", index * 7) for line in _LINES]
        (folder / f"{index:03}.txt").write_text("\n".join(lines[index % 3 :] * 2) + "\n", encoding="utf-8")
    return folder


def write_poems(path: Path, number: int = 30, first: int = 0) -> Path:
    """JSON lines with a list of lines each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    poems = [
        {"title": f"{i}", "lines": [f"床前明月光{i}。", f"疑是地上霜{i * 3}。"]}
        for i in range(first, first + number)
    ]
    path.write_text("".join(json.dumps(poem, ensure_ascii=False) + "\n" for poem in poems), encoding="utf-8")
    return path


_JUDGED = {
    "negative": ("awful", "dull", "糟糕"),
    "positive": ("great", "lovely", "精彩"),
    "neutral": ("long", "plain", "普通"),
}


def labelled(number: int, classes: int = 2, first: int = 0) -> list[tuple[str, str]]:
    """Texts, no two alike, and their classes, which a word in each gives away."""
    found = []
    for index in range(first, first + number):
        label = list(_JUDGED)[index % classes]
        word = _JUDGED[label][index // classes % 3]
        found.append((f"the film number {index}, {word} from end to end", label))
    return found


def write_labelled(
    path: Path, rows: list[tuple[str, str]], header: tuple[str, str] | None = ("text", "label")
) -> Path:
    """A `.csv` or `.tsv` of texts and labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tabs = path.suffix == ".tsv"
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter="\t" if tabs else ",", lineterminator="\n")
        writer.writerows([*([header] if header else []), *rows])
    return path


def write_talks(path: Path, number: int = 40) -> Path:
    """JSON lines with a conversation each, and the same as an instruction with its input and output."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for n in range(number):
        turns = (
            ("system", "Be brief."),
            ("user", f"What is {n} and {n}?"),
            ("assistant", f"It is {2 * n}."),
            ("user", "Sure?"),
            ("assistant", "Yes 是."),
        )
        talk = {
            "messages": [{"role": role, "content": text} for role, text in turns],
            "instruction": f"Add {n} and {n}.",
            "input": f"say {n}" if n % 2 else "",
            "output": f"{2 * n}",
        }
        lines.append(json.dumps(talk, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def last_weights(run: Any) -> dict[str, Any]:
    """The weights that training ended with, which need not be the best on validation: tensors by name."""
    from telos.train import checkpoint

    newest = checkpoint.newest_valid(run.folder / "checkpoints")
    assert newest is not None
    return dict(checkpoint.load(newest).tensors["model"])
