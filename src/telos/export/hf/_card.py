"""The model card, README.md: what the model is, how it is opened, its figures, and the proof."""

from collections.abc import Iterator, Mapping
from typing import Any

from telos.export._base import Trained
from telos.export.hf._base import Architecture, classifies

__all__ = ["card"]

_TASKS = {"causal": "text-generation", "full": "fill-mask", "pair": "text2text-generation"}


def card(trained: Trained, name: str, architecture: Architecture, figures: Mapping[str, Any]) -> str:
    """README.md, with the head that the hub reads."""
    says_tokens = architecture.asks(trained.sizes) == "tokens"
    judges = classifies(trained.sizes)
    tag = "text-classification" if judges else _TASKS[architecture.reads]
    task = [f"pipeline_tag: {tag}"] if says_tokens or judges else []
    head = ["---", "library_name: transformers", *task, "---"]
    kind = architecture.opened_by(trained.sizes)
    count = trained.model.parameter_count(trained.sizes)
    what = (
        f"A {name} model of {count:,} parameters and {trained.sizes.vocabulary:,} tokens, trained with the "
        f"objective `{trained.objective.name}` by Telos."
    )
    use = [
        "```python",
        f"from transformers import AutoTokenizer, {kind}",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        f'model = {kind}.from_pretrained("FOLDER")',
        "```",
    ]
    parts = [
        *head,
        "",
        f"# {trained.name}",
        "",
        what,
        "",
        *use,
        "",
        *_said(trained),
        *_proved(figures, says_tokens),
    ]
    return "\n".join(parts) + "\n"


def _said(trained: Trained) -> Iterator[str]:
    """Text and figures as the run's own files have them."""
    about = trained.about.get("card", {})
    if splits := about.get("splits"):
        yield from ("## Text", "", "| split | documents | bytes | tokens |", "|---|---|---|---|")
        for split, counts in splits.items():
            yield f"| {split} | {counts['documents']:,} | {counts['bytes']:,} | {counts['tokens']:,} |"
        yield ""
        if steps := about.get("cleaning"):
            yield f"It was cleaned: {', '.join(steps)}. Do the same to what you give the model."
            yield ""
    rows = list(_figures(trained.about.get("evaluation", {}).get("test", {})))
    if rows:
        yield from ("## Figures on held-out text", "", "| figure | value |", "|---|---|")
        yield from (f"| {name} | {value:.4f} |" for name, value in rows)
        yield ""


def _figures(scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What an evaluation found, by name."""
    if scores.get("loss") is not None:
        unit = "token" if scores.get("tokens") else "question"
        yield f"loss, nats per {unit} ({scores['kind']})", scores["loss"]
    if scores.get("tokens") and scores.get("perplexity") is not None:
        yield "perplexity per token", scores["perplexity"]
    if scores.get("bits_per_byte") is not None:
        yield "bits per byte", scores["bits_per_byte"]
    if judged := scores.get("classification"):
        yield f"accuracy on {judged['texts']:,} texts", judged["accuracy"]["value"]
        yield "macro-F1", judged["macro_f1"]["value"]


def _proved(figures: Mapping[str, Any], says_tokens: bool) -> Iterator[str]:
    yield from ("## Proof that it says the same", "")
    yield (
        f"Opened with transformers {figures['transformers']} and compared with the model that was trained; "
        "all figures are in `telos.json`."
    )
    yield from ("", "| compared | found |", "|---|---|")
    for kind, by_length in figures["logits"].items():
        for length, difference in by_length.items():
            what = f"logits at {length} tokens, {kind}: difference as a share of the largest"
            yield f"| {what} | {difference:.1e} |"
    if "classes" in figures:
        classes = figures["classes"]
        what = f"logits of {classes['texts']} texts that are padded together, float32"
        yield f"| {what} | {classes['difference']:.1e} |"
        yield f"| tokens of held-out text that both tokenizers agree on | {figures['tokens']:,} |"
        yield from ("", f"The classes: {', '.join(classes['names'])}.")
        return
    perplexity, greedy = figures["perplexity"], figures["greedy"]["tokens"]
    scored = f"{perplexity['tokens']:,} tokens of {figures['text']}"
    what = "perplexity on" if says_tokens else 'perplexity of "was it replaced?" on'
    yield f"| {what} {scored}, here | {perplexity['ours']:.6f} |"
    yield f"| the same, there | {perplexity['theirs']:.6f} |"
    answers = "greedy tokens" if says_tokens else "likeliest answers"
    yield f"| {answers} that are the same | {greedy} of {greedy} |"
    yield f"| tokens of held-out text that both tokenizers agree on | {figures['tokens']:,} |"
