"""What BERT and those that followed it share: one body, described and named alike."""

from collections.abc import Mapping
from typing import Any

from telos.export.hf._base import BOTH_WAYS, Architecture, Fixed, Pair, figure, integer, linear, norm, stacked
from telos.export.hf._base import key_heads_misfit as key_heads
from telos.models._base import Model, Sizes

__all__ = ["BertLike"]

_LAYERS = {
    "attend.outward": "attention.output.dense",
    "norm_attend": "attention.output.LayerNorm",
    "feed.inward": "intermediate.dense",
    "feed.outward": "output.dense",
    "norm_feed": "output.LayerNorm",
}


class BertLike(Architecture):
    """Learned positions, LayerNorm after each addition, exact GELU, token types."""

    model = "encoder"
    reads = "full"
    specials = BOTH_WAYS
    fixed = (
        Fixed("hidden_act", "gelu", "gelu"),
        Fixed("layer_norm_eps", 1e-12, 1e-12),
        Fixed("position_embedding_type", "absolute", "absolute"),
        Fixed("is_decoder", False, False),
        Fixed("add_cross_attention", False, False),
        Fixed("tie_word_embeddings", True, True),
    )
    width = 768
    """Where config.json does not say it, and so the next two."""
    heads_count = 12
    feed_width = 3072

    def misfit(self, model: Model, sizes: Sizes) -> str:
        e: Any = model
        if e.positions.kind != "learned":
            return f"positions are {e.positions.kind}"
        if e.norm != "post" or e.feed.kind != "gelu":
            return f"norm = {e.norm}, feed = {e.feed.kind}"
        if e.heads.local.reach:
            return "blocks are local"
        if not e.embedding.types:
            return "there are no types of tokens: set model.embedding.types = 2"
        return key_heads(model)

    def sizes(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        """The part of config.json that all of them have."""
        e: Any = model
        return {
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.window,
            "hidden_size": e.width,
            "num_hidden_layers": e.depth,
            "num_attention_heads": e.heads.count,
            "intermediate_size": e.feed_width,
            "type_vocab_size": e.embedding.types,
            "hidden_dropout_prob": e.dropout,
            "attention_probs_dropout_prob": e.dropout,
            **{each.key: each.value for each in self.fixed},
        }

    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "width": integer(config, "hidden_size", self.width),
            "depth": integer(config, "num_hidden_layers", 12),
            "heads": {"count": integer(config, "num_attention_heads", self.heads_count)},
            "positions": {"kind": "learned"},
            "norm": "post",
            "feed": {"kind": "gelu", "width": integer(config, "intermediate_size", self.feed_width)},
            "embedding": {"types": integer(config, "type_vocab_size", 2)},
            "dropout": figure(config, "hidden_dropout_prob", 0.1),
        }

    def places(self, config: Mapping[str, Any]) -> int:
        return integer(config, "max_position_embeddings", 512)

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        e: Any = model
        inside, layers = f"{self.body}embeddings", f"{self.body}encoder.layer"
        found = [
            Pair("embedding.weight", (f"{inside}.word_embeddings.weight",), per="token"),
            Pair("places.weight", (f"{inside}.position_embeddings.weight",), per="place"),
            Pair("types.weight", (f"{inside}.token_type_embeddings.weight",)),
            *norm("norm_embedded", f"{inside}.LayerNorm", bias=True),
        ]
        if e.widened:
            found += linear("widen", f"{self.body}embeddings_project", bias=True)
        for number in range(e.depth):
            ours, theirs = f"blocks.{number}", f"{layers}.{number}"
            attend = [f"{theirs}.attention.self.{name}" for name in ("query", "key", "value")]
            found += stacked(f"{ours}.attend.inward", attend, (e.width,) * 3, bias=True)
            for layer, name in _LAYERS.items():
                found += linear(f"{ours}.{layer}", f"{theirs}.{name}", bias=True)
        return found
