"""BERT (Devlin et al., 2019): learned positions, LayerNorm after each addition, exact GELU, token types, and
the two heads it was trained with: hidden tokens, and whether one sentence follows another."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from telos.export.hf._base import Architecture, Fixed, Pair, figure, integer, linear, norm, stacked
from telos.models._base import Model, Sizes

__all__ = ["Bert"]

NEXT = "next_sentence"
"""The head of the second task. Class 0: the second follows the first, as theirs has it."""


@final
class Bert(Architecture):
    """`BertForMaskedLM`, or with the second head `BertForPreTraining`."""

    model = "encoder"
    style = 'an encoder with positions = "learned", norm = "post", feed = "gelu"'
    reads = "full"
    heads = ("tokens", NEXT)
    body = "bert."
    tied = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    derived = ("embeddings.position_ids", "cls.predictions.decoder.bias")
    fixed: ClassVar = (
        Fixed("hidden_act", "gelu", "gelu"),
        Fixed("layer_norm_eps", 1e-12, 1e-12),
        Fixed("position_embedding_type", "absolute", "absolute"),
        Fixed("is_decoder", False, False),
        Fixed("add_cross_attention", False, False),
        Fixed("tie_word_embeddings", True, True),
    )
    specials: ClassVar = {
        "begin": "[CLS]",
        "end": "[SEP]",
        "separate": "[SEP]",
        "pad": "[PAD]",
        "mask": "[MASK]",
    }

    def misfit(self, model: Model, sizes: Sizes) -> str:
        e: Any = model
        if e.positions.kind != "learned":
            return f"positions are {e.positions.kind}"
        if e.norm != "post" or e.feed.kind != "gelu":
            return f"norm = {e.norm}, feed = {e.feed.kind}"
        if e.key_heads != e.heads.count or e.heads.normed or e.heads.local.reach:
            return "key heads are shared, normed or local"
        return "" if e.types else "there are no types of tokens: set model.types = 2"

    def opened_by(self, sizes: Sizes) -> str:
        both = any(spec.name == NEXT for spec in sizes.heads)
        return "AutoModelForPreTraining" if both else "AutoModelForMaskedLM"

    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        e: Any = model
        both = any(spec.name == NEXT for spec in sizes.heads)
        return {
            "architectures": ["BertForPreTraining" if both else "BertForMaskedLM"],
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.window,
            "hidden_size": e.width,
            "num_hidden_layers": e.depth,
            "num_attention_heads": e.heads.count,
            "intermediate_size": e.feed_width,
            "type_vocab_size": e.types,
            "hidden_dropout_prob": e.dropout,
            "attention_probs_dropout_prob": e.dropout,
            **{each.key: each.value for each in self.fixed},
        }

    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "width": integer(config, "hidden_size", 768),
            "depth": integer(config, "num_hidden_layers", 12),
            "heads": {"count": integer(config, "num_attention_heads", 12)},
            "positions": {"kind": "learned"},
            "norm": "post",
            "feed": {"kind": "gelu", "width": integer(config, "intermediate_size", 3072)},
            "types": integer(config, "type_vocab_size", 2),
            "dropout": figure(config, "hidden_dropout_prob", 0.1),
        }

    def places(self, config: Mapping[str, Any]) -> int:
        return integer(config, "max_position_embeddings", 512)

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        e: Any = model
        found = [
            Pair("embedding.weight", ("bert.embeddings.word_embeddings.weight",), per="token"),
            Pair("places.weight", ("bert.embeddings.position_embeddings.weight",), per="place"),
            Pair("types.weight", ("bert.embeddings.token_type_embeddings.weight",)),
            *norm("norm_embedded", "bert.embeddings.LayerNorm", bias=True),
        ]
        for number in range(e.depth):
            ours, theirs = f"blocks.{number}", f"bert.encoder.layer.{number}"
            attend = [f"{theirs}.attention.self.{name}" for name in ("query", "key", "value")]
            found += stacked(f"{ours}.attend.inward", attend, (e.width,) * 3, bias=True)
            for layer, name in _LAYERS.items():
                found += linear(f"{ours}.{layer}", f"{theirs}.{name}", bias=True)
        return found + _heads(sizes)


_LAYERS = {
    "attend.outward": "attention.output.dense",
    "norm_attend": "attention.output.LayerNorm",
    "feed.inward": "intermediate.dense",
    "feed.outward": "output.dense",
    "norm_feed": "output.LayerNorm",
}


def _heads(sizes: Sizes) -> list[Pair]:
    found = [
        *linear("heads.tokens.transform.dense", "cls.predictions.transform.dense", bias=True),
        *norm("heads.tokens.transform.norm", "cls.predictions.transform.LayerNorm", bias=True),
        Pair("heads.tokens.bias", ("cls.predictions.bias",), per="token"),
    ]
    if any(spec.name == NEXT for spec in sizes.heads):
        found += linear(f"heads.{NEXT}.transform.dense", "bert.pooler.dense", bias=True)
        found += linear(f"heads.{NEXT}", "cls.seq_relationship", bias=True)
    return found
