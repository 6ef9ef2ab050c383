"""Proof that a folder says what our model says: it is loaded as anyone would load it, and compared.

| what | on what | must be |
|---|---|---|
| logits | 1, 20 and as many tokens as fit, in float32 | within 1e-4 of the largest logit |
| | the same in float64 | within 1e-5 |
| perplexity | held-out text, in float32 | within 1e-4 of each other |
| greedy text | up to 64 tokens from nothing, in float64 | equal |
| classes | held-out texts as they are, cut to the window and padded | logits within 1e-4 of the largest |
| tokens | held-out text through both tokenizers | equal |
| special tokens | their ids in all files | equal |
| weights | what loading says of them | none new, none left over |

A model that puts texts in classes has neither perplexity nor greedy text.
"""

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from telos.errors import ConfigError, ExportError
from telos.evaluate._classifier import Classifier
from telos.export._base import Trained
from telos.export.hf._base import Architecture, classifies
from telos.export.hf._case import case, ours_judge, ours_say, theirs_say
from telos.export.hf._classes import question, stream
from telos.export.hf._write import TEMPLATE, special_ids, special_tokens
from telos.generate._base import generate
from telos.generate._settings import GenerateSettings
from telos.json_files import read_object
from telos.models._base import Network
from telos.turns import Turn

__all__ = ["compared", "loaded", "prove", "quiet", "same_chats", "same_classes"]

LENGTHS = (1, 20)
"""And as many as fit."""
LIMITS = {"float32": 1e-4, "float64": 1e-5}
"""Differences of logits, as a share of the largest: what rounding does to deep networks. In float64 too,
transformers rounds angles and norms to float32."""
PERPLEXITY = 1e-4
GREEDY = 64
NOTHING = "Nothing was written. This is a bug in Telos: please report it with the recipe."
CHAT = 400
"""Characters of a message that templates are compared on."""
SCORED = 8192
"""Tokens of held-out text that are scored at most."""


def prove(trained: Trained, architecture: Architecture, folder: Path) -> dict[str, Any]:
    """The figures of all comparisons.

    Raises:
        ConfigError: transformers is not installed.
        ExportError: they differ; the message has the figures.
    """
    with quiet() as transformers:
        theirs = loaded(transformers, trained, architecture, folder)
        _same_ids(trained, architecture, folder)
        tokens = _same_tokens(transformers, trained, folder)
        chats = same_chats(transformers, trained, folder)
        classes = same_classes(transformers, trained, folder, theirs)
        figures = compared(trained, architecture, theirs)
    return {"transformers": transformers.__version__, **figures, "tokens": tokens, **chats, **classes}


@torch.no_grad()
def compared(trained: Trained, architecture: Architecture, theirs: Any) -> dict[str, Any]:
    """The figures of all that is computed by our network and by a model of transformers, which is in float64
    afterwards.

    Raises:
        ExportError: they differ.
    """
    ours = copy.deepcopy(trained.network).cpu().eval()
    judges = classifies(trained.sizes)
    said: dict[str, Any] = {}
    logits = {"float32": _same_logits(trained, architecture, ours, theirs, "float32")}
    if not judges:
        said["perplexity"] = _same_perplexity(trained, architecture, ours, theirs)
    ours, theirs = ours.double(), theirs.double()
    logits["float64"] = _same_logits(trained, architecture, ours, theirs, "float64")
    if not judges:
        said["greedy"] = _same_text(trained, architecture, ours, theirs)
    return {"text": trained.held.name, "logits": logits, **said}


@contextmanager
def quiet() -> Iterator[Any]:
    """transformers without its bars and advice; what is wrong is found out by the comparisons."""
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            "exporting to Hugging Face proves what it wrote with transformers, which is not installed. "
            "Install the extra: pip install 'telos-lm[hf]'."
        ) from None
    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def loaded(transformers: Any, trained: Trained, architecture: Architecture, folder: Path) -> Any:
    """The model as anyone would load it: no remote code, and not a weight that the file does not hold."""
    kind = getattr(transformers, architecture.opened_by(trained.sizes))
    model, told = kind.from_pretrained(
        folder, output_loading_info=True, local_files_only=True, dtype=torch.float32
    )
    wrong = {key: sorted(map(str, names)) for key, names in told.items() if names}
    if wrong:
        raise ExportError(f"transformers loads the weights otherwise than they were written: {wrong}.")
    return model.eval()


# ---- the comparisons


def _same_ids(trained: Trained, architecture: Architecture, folder: Path) -> None:
    """Special tokens are the same in every file, whichever of them a program reads."""
    ids = special_ids(trained.tokenizer, architecture)
    tokens = special_tokens(trained.tokenizer, architecture)
    for name, wanted in (
        ("config.json", ids),
        ("generation_config.json", ids),
        ("tokenizer_config.json", tokens),
        ("special_tokens_map.json", tokens),
    ):
        said = read_object(folder / name, ExportError)
        for key, value in wanted.items():
            if said.get(key) != value:
                raise ExportError(f"{name} says {key} = {said.get(key)!r}, where it is {value!r}. {NOTHING}")


def _same_tokens(transformers: Any, trained: Trained, folder: Path) -> int:
    """How many tokens of held-out text both tokenizers agree on."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = trained.tokenizer
    ids = {"bos": ours.begin, "eos": ours.end, "pad": ours.pad, "mask": ours.mask, "sep": ours.separate}
    for name, wanted in ids.items():
        if getattr(tokenizer, f"{name}_token_id") != wanted:
            raise ExportError(f"the exported tokenizer has another {name} token than {wanted}.")
    if len(tokenizer) > trained.sizes.vocabulary:
        raise ExportError(f"{len(tokenizer)} tokens, and {trained.sizes.vocabulary} rows of the embedding.")
    total = 0
    for document in trained.held.documents:
        text = ours.decode(document)
        wanted_ids = ours.encode(text).tolist()
        if tokenizer(text, add_special_tokens=False)["input_ids"] != wanted_ids:
            raise ExportError(f"the exported tokenizer cuts this text otherwise: {text[:200]!r}")
        total += len(wanted_ids)
    return total


def same_chats(transformers: Any, trained: Trained, folder: Path) -> dict[str, Any]:
    """How many conversations a template makes the tokens of that were trained on. A template that makes
    others is taken away, with the reason."""
    if not (folder / TEMPLATE).is_file():
        return {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours, texts = trained.tokenizer, [trained.tokenizer.decode(ids)[:CHAT] for ids in trained.held.documents]
    texts = [text.strip() for text in texts if text.strip()]
    for number, text in enumerate(texts):
        said = [Turn("system", "Be brief."), Turn("user", text), Turn("assistant", texts[number - 1])]
        turns = [*said[number % 2 :], Turn("user", "床前明月光")]
        messages = [{"role": role, "content": content} for role, content in turns]
        theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        wanted = trained.objective.chat(turns, ours)
        if wanted is None or list(theirs) != wanted.main.ids.tolist():
            (folder / TEMPLATE).unlink()
            return {
                "chats": f"no template: by this vocabulary it would be cut otherwise, as in {text[:60]!r}"
            }
    return {"chats": len(texts)}


@torch.no_grad()
def same_classes(transformers: Any, trained: Trained, folder: Path, theirs: Any) -> dict[str, Any]:
    """How many texts are put in the same classes, from their characters on, padded together; one is longer
    than the window. Nothing for a model that puts none in classes."""
    if not classifies(trained.sizes):
        return {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = [trained.tokenizer.decode(ids) for ids in trained.held.documents]
    texts = [text for text in texts if text and not text.isspace()]
    longer = texts[0] * (1 + trained.sizes.window // max(1, len(trained.tokenizer.encode(texts[0]))))
    texts.append(longer)
    given = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    ours = copy.deepcopy(trained.network).cpu()
    classifier = Classifier(ours, trained.objective, trained.tokenizer, trained.sizes.window)
    names = theirs.config.id2label
    if names != dict(enumerate(classifier.labels)):
        here = ", ".join(classifier.labels)
        raise ExportError(f"the classes are {names} there, and {here} here. {NOTHING}")
    a, b = torch.from_numpy(classifier.logits(texts)), theirs(**given).logits
    difference = _difference(a, b, "of held-out texts that are padded together", "float32")
    return {"classes": {"names": list(classifier.labels), "texts": len(texts), "difference": difference}}


def _same_logits(
    trained: Trained, architecture: Architecture, ours: Network, theirs: Any, kind: str
) -> dict[str, float]:
    """By length: the largest difference as a share of the largest logit."""
    text, room = stream(trained), trained.sizes.window
    if classifies(trained.sizes):
        room = trained.objective.cut(room).length
    found = {}
    for length in dict.fromkeys(min(n, room) for n in (*LENGTHS, room)):
        a, b = _both_say(trained, architecture, np.resize(text, length), ours, theirs)
        found[str(length)] = _difference(a, b, f"at a length of {length},", kind)
    return found


def _both_say(
    trained: Trained, architecture: Architecture, ids: NDArray[np.int64], ours: Network, theirs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a text (n,): at each of its places, or of its classes."""
    if classifies(trained.sizes):
        row = question(trained, ids)
        return ours_judge(ours, row), theirs(input_ids=torch.from_numpy(row.main.ids)[None]).logits
    asked = case(architecture, torch.from_numpy(ids), trained.tokenizer, architecture.asks(trained.sizes))
    return ours_say(ours, asked, architecture), theirs_say(theirs, asked, architecture)


def _difference(a: torch.Tensor, b: torch.Tensor, where: str, kind: str) -> float:
    """The largest as a share of the largest logit.

    Raises:
        ExportError: it is more than rounding.
    """
    difference = float((a - b).abs().max() / a.abs().max().clamp(min=1e-9))
    if not difference <= LIMITS[kind]:
        raise ExportError(
            f"the exported model says something else: {where} logits in {kind} differ by {difference:.1e} of "
            f"the largest, where {LIMITS[kind]:.0e} is allowed. {NOTHING}"
        )
    return difference


def _same_perplexity(
    trained: Trained, architecture: Architecture, ours: Network, theirs: Any
) -> dict[str, float]:
    """Of both, on held-out text in windows."""
    nats, count, window = [0.0, 0.0], 0, trained.sizes.window
    text, head = stream(trained)[:SCORED], architecture.asks(trained.sizes)
    for start in range(0, len(text), window):
        asked = case(architecture, torch.from_numpy(text[start : start + window]), trained.tokenizer, head)
        both = (ours_say(ours, asked, architecture), theirs_say(theirs, asked, architecture))
        for side, said in enumerate(both):
            nats[side] += float(
                functional.cross_entropy(said[asked.at].double(), asked.target, reduction="sum")
            )
        count += len(asked.at)
    a, b = (math.exp(min(value / max(count, 1), 700.0)) for value in nats)
    if not abs(a - b) <= PERPLEXITY * a:
        raise ExportError(f"perplexity on {trained.held.name} is {a} here and {b} there. {NOTHING}")
    return {"ours": a, "theirs": b, "tokens": count}


def _same_text(trained: Trained, architecture: Architecture, ours: Network, theirs: Any) -> dict[str, Any]:
    """What both write, always taking the likeliest token; or put in the place of hidden ones."""
    if architecture.reads == "causal":
        a, b = _continued(trained, ours, theirs)
    elif architecture.reads == "pair":
        a, b = _answered(trained, architecture, ours, theirs)
    else:
        a, b = _filled(trained, architecture, ours, theirs)
    if a != b:
        differs = next(place for place, pair in enumerate(zip_longest(a, b)) if pair[0] != pair[1])
        raise ExportError(f"greedy text differs from token {differs} on: {a} here, {b} there. {NOTHING}")
    said = trained.tokenizer.decode(a) if architecture.asks(trained.sizes) == "tokens" else ""
    return {"tokens": len(a), "text": said}


def _continued(trained: Trained, ours: Network, theirs: Any) -> tuple[list[int], list[int]]:
    """What follows the begin token."""
    tokenizer, window = trained.tokenizer, trained.sizes.window
    length = max(1, min(GREEDY, window - 1))
    settings = GenerateSettings(temperature=0.0, length=length)
    sample = generate(ours, tokenizer, [""], settings, window=window)[0]
    start = torch.tensor([[tokenizer.begin]])
    written = theirs.generate(start, max_new_tokens=length, do_sample=False)
    return list(sample.ids), written[0, 1:].tolist()


def _answered(
    trained: Trained, architecture: Architecture, ours: Network, theirs: Any
) -> tuple[list[int], list[int]]:
    """What is said of a source, up to the end token."""
    tokenizer, length = trained.tokenizer, max(1, min(GREEDY, trained.sizes.window - 1))
    ids = torch.from_numpy(stream(trained)[: trained.sizes.window])
    asked = case(architecture, ids, tokenizer)
    said = [tokenizer.begin]
    while len(said) <= length and (len(said) == 1 or said[-1] != tokenizer.end):
        logits = ours_say(ours, asked._replace(ids=torch.tensor(said)), architecture)
        said.append(int(logits[-1].argmax()))
    assert asked.source is not None
    # without its cache, which breaks where the decoder is deeper than the encoder
    written = theirs.generate(asked.source[None], max_new_tokens=length, do_sample=False, use_cache=False)
    return said[1:], written[0, 1:].tolist()


def _filled(
    trained: Trained, architecture: Architecture, ours: Network, theirs: Any
) -> tuple[list[int], list[int]]:
    """The likeliest tokens in hidden places, or for each place whether it is held to be replaced."""
    ids = torch.from_numpy(stream(trained)[: trained.sizes.window])
    asked = case(architecture, ids, trained.tokenizer, architecture.asks(trained.sizes))
    both = (ours_say(ours, asked, architecture), theirs_say(theirs, asked, architecture))
    a, b = (said[asked.at].argmax(-1).tolist()[:GREEDY] for said in both)
    return a, b
