"""Models that put texts in classes, both ways: what config.json says of the classes, where a text is asked.

    ours                            theirs
    read = "full", at ⊢             BERT: the pooler's place; ModernBERT: classifier_pooling = "cls"
    read = "full", mean of all      ModernBERT: classifier_pooling = "mean"
    read = "causal", at ⊣           GPT-2, Llama: the last token that does not pad

Where a text is asked is read off a question as the objective puts it, so that no objective is named here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers as library
from numpy.typing import NDArray

from telos.batch import Example, HeadSpec, Piece
from telos.errors import ConfigError
from telos.export._base import Trained
from telos.export.hf._base import Architecture, integer, named_head
from telos.objectives._base import Learned

__all__ = ["begun_anew", "called", "described", "framed_otherwise", "learned", "misfit", "question", "stream"]

_WORDS = {
    "first": "at its first place",
    "last": "at its last place",
    "all": "by the mean of all places of its row",
    "text": "by the mean of the text's own places",
}
_OTHER_TASKS = ("regression", "multi_label_classification")


def stream(trained: Trained) -> NDArray[np.int64]:
    """All held-out documents, one after the other."""
    return np.concatenate(trained.held.documents).astype(np.int64)


def question(trained: Trained, ids: NDArray[np.int64]) -> Example:
    """A text (n,) as a row, and where it is asked."""
    example = trained.objective.judged(Piece(ids=ids, document=0), trained.tokenizer)
    assert example is not None, "an objective with classes judges texts"
    return example


# ---- out


def misfit(architecture: Architecture, trained: Trained) -> str:
    """What in a model that puts texts in classes is not as in theirs; empty where it fits."""
    form, named = architecture.classifier, named_head(trained.sizes)
    if form is None or named is None:
        return f"the model has no head but {', '.join(spec.name for spec in trained.sizes.heads)}"
    if form.unlike:
        return form.unlike
    example = question(trained, stream(trained)[:3])
    if example.pattern != architecture.reads:
        ways = {"full": "in both directions", "causal": "from left to right"}
        here, there = (ways.get(way, way) for way in (example.pattern, architecture.reads))
        return f"a text is read {here}, and by a {form.kind} {there}"
    place = _place(example)
    if place not in form.asked:
        there = " or ".join(_WORDS[each] for each in form.asked)
        return f"a text is asked {_WORDS[place]}, and by a {form.kind} {there}"
    if place == "last" and trained.tokenizer.pad == trained.tokenizer.end:
        return f"its end token pads as well, and a {form.kind} asks the last token that does not"
    return ""


def _place(example: Example) -> str:
    """At which place of its row a text is asked, or the mean of which."""
    (ask,), places = example.asks, len(example.main)
    if ask.of is not None:
        return "all" if len(ask.at) == places else "text"
    return "first" if ask.at.tolist() == [0] else "last"


def described(architecture: Architecture, trained: Trained) -> dict[str, Any]:
    """What config.json says of the classes, and of where a text is asked."""
    form, named = architecture.classifier, named_head(trained.sizes)
    assert form is not None and named is not None
    return {
        "architectures": [form.kind],
        "id2label": {str(number): name for number, name in enumerate(named.names)},
        "label2id": {name: number for number, name in enumerate(named.names)},
        "problem_type": "single_label_classification",
        **form.asked[_place(question(trained, stream(trained)[:3]))],
    }


# ---- in


def learned(config: Mapping[str, Any], architecture: Architecture) -> Learned | None:
    """The head for classes that a config.json tells of; none where there is none, or one that does not choose
    between classes, or one that is never like ours.

    Raises:
        ConfigError: its classes are not numbered, or a text is asked as ours never is.
    """
    form, kinds = architecture.classifier, config.get("architectures")
    if form is None or form.unlike or not isinstance(kinds, list) or form.kind not in kinds:
        return None
    names = _names(config)
    count = len(names) or integer(config, "num_labels", 2)
    if count < 2 or config.get("problem_type") in _OTHER_TASKS:
        return None
    nameless = len(set(names)) < count or names == tuple(f"LABEL_{number}" for number in range(count))
    return Learned(
        names=() if nameless else names,
        rows=count,
        read="causal" if architecture.reads == "causal" else "full",
        asked=_asked(config, form.asked),
    )


def _names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the classes, in the order of their numbers; none where nothing is said."""
    said = config.get("id2label")
    if said is None:
        return ()
    wanted = [str(number) for number in range(len(said))] if isinstance(said, dict) else []
    if (
        not wanted
        or sorted(said) != sorted(wanted)
        or not all(isinstance(n, str) and n for n in said.values())
    ):
        raise ConfigError(f"config.json: id2label = {said!r}: expected a name for each number from 0 on.")
    return tuple(said[number] for number in wanted)


def _asked(config: Mapping[str, Any], ways: Mapping[str, Mapping[str, Any]]) -> Any:
    """Where a text is asked: the first of the ways where nothing is said."""
    first, *_ = ways
    for place, said in ways.items():
        if all(config.get(key, ways[first][key]) == value for key, value in said.items()):
            return place
    keys = {key: config.get(key) for said in ways.values() for key in said}
    raise ConfigError(f"config.json: {keys}: texts are asked in another way than they can be here.")


def begun_anew(named: HeadSpec, head: Learned | None) -> str:
    """What is said where a file has a head for classes and ours begins anew."""
    here = f"heads.{named.name} starts anew"
    if head is None:
        return f"{here}: the head there is not one that chooses between classes"
    classes = ", ".join(head.names) or f"{head.rows} without names"
    return f"{here}: the head there is for other classes ({classes}) than here ({', '.join(named.names)})"


def called(named: HeadSpec, head: Learned) -> list[str]:
    """What is said where nobody named the classes of a file."""
    if head.names:
        return []
    return [f"the classes there have no names; in the order of their rows they are {', '.join(named.names)}"]


def framed_otherwise(folder: Path, special: Mapping[str, str], architecture: Architecture) -> list[str]:
    """What is said where a folder's own tokenizer puts a text to its model otherwise than it is put here."""
    inner = library.Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.no_padding()
    inner.no_truncation()
    bare = inner.encode("a", add_special_tokens=False).tokens
    last = "end" if architecture.reads == "causal" else "separate"
    first, last = (special.get(name, f"<|{name}|>") for name in ("begin", last))
    there, here = inner.encode("a").tokens, [first, *bare, last]
    if there == here:
        return []
    return [
        f"the tokenizer there reads a text as {' '.join(there)}, and here it is read as {' '.join(here)}: "
        "until it is trained on, the head for classes says something else than there"
    ]
