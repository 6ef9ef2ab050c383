"""ModernBERT (Warner et al., 2024): rotary positions, LayerNorm before each part, GeGLU, no biases, and most
blocks local."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from telos.errors import ConfigError
from telos.export.hf._base import (
    BOTH_WAYS,
    Architecture,
    Classifier,
    Fixed,
    Pair,
    classifies,
    figure,
    has_head,
    integer,
    key_heads_misfit,
    linear,
    named_head,
    norm,
    rotary_base,
    table,
)
from telos.models._base import Model, Sizes

__all__ = ["ModernBert"]

FULL, NEAR = "full_attention", "sliding_attention"
CLASSES = "classifier"


@final
class ModernBert(Architecture):
    """`ModernBertForMaskedLM`, or `ModernBertForSequenceClassification`."""

    model = "encoder"
    style = 'an encoder with positions = "rotary", norm = "pre", feed = "geglu"'
    reads = "full"
    body = "model."
    classifier: ClassVar = Classifier(
        "ModernBertForSequenceClassification",
        CLASSES,
        {"first": {"classifier_pooling": "cls"}, "all": {"classifier_pooling": "mean"}},
    )
    tied = ("model.embeddings.tok_embeddings.weight", "decoder.weight")
    fixed: ClassVar = (
        Fixed("hidden_activation", "gelu", "gelu"),
        Fixed("classifier_activation", "gelu", "gelu"),
        Fixed("norm_eps", 1e-5, 1e-5),
        Fixed("norm_bias", False, False),
        Fixed("attention_bias", False, False),
        Fixed("mlp_bias", False, False),
        Fixed("classifier_bias", False, False),
        Fixed("decoder_bias", True, True),
        Fixed("tie_word_embeddings", True, True),
    )
    specials = BOTH_WAYS

    def misfit(self, model: Model, sizes: Sizes) -> str:
        e: Any = model
        if e.positions.kind != "rotary":
            return f"positions are {e.positions.kind}"
        if e.norm != "pre" or e.feed.kind != "geglu":
            return f"norm = {e.norm}, feed = {e.feed.kind}"
        if e.embedding.types or e.widened:
            return "tokens have types" if e.embedding.types else f"embedding.width = {e.embedding.width}"
        if not has_head(sizes, "tokens") and not classifies(sizes):
            return "it says no tokens"
        return key_heads_misfit(model)

    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        e: Any = model
        near = e.heads.local
        bases = {FULL: e.positions.base, NEAR: near.base or e.positions.base}
        return {
            "architectures": ["ModernBertForMaskedLM"],
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.window,
            "hidden_size": e.width,
            "num_hidden_layers": e.depth,
            "num_attention_heads": e.heads.count,
            "intermediate_size": e.feed_width,
            "layer_types": [NEAR if near.at(number) else FULL for number in range(e.depth)],
            "local_attention": 2 * near.reach,
            "rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()
            },
            **dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout"), e.dropout),
            **{each.key: each.value for each in self.fixed},
        }

    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        depth = integer(config, "num_hidden_layers", 22)
        said = table(config, "rope_parameters")
        whole = rotary_base(table(said, FULL), figure(config, "global_rope_theta", 160000.0))
        base = rotary_base(table(said, NEAR), figure(config, "local_rope_theta", 10000.0))
        near = _near(config, depth)
        if near["reach"] and base != whole:
            near["base"] = base
        return {
            "width": integer(config, "hidden_size", 768),
            "depth": depth,
            "heads": {"count": integer(config, "num_attention_heads", 12), "local": near},
            "positions": {"kind": "rotary", "base": whole},
            "norm": "pre",
            "feed": {"kind": "geglu", "width": integer(config, "intermediate_size", 1152)},
            "dropout": figure(config, "embedding_dropout", 0.0),
        }

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        e: Any = model
        found = [
            Pair("embedding.weight", ("model.embeddings.tok_embeddings.weight",), per="token"),
            *norm("norm_embedded", "model.embeddings.norm", bias=False),
            *norm("norm", "model.final_norm", bias=False),
            *_heads(sizes),
        ]
        for number in range(e.depth):
            ours, theirs = f"blocks.{number}", f"model.layers.{number}"
            if number:  # what comes into the first block is normalised already
                found += norm(f"{ours}.norm_attend", f"{theirs}.attn_norm", bias=False)
            for layer, name in _LAYERS.items():
                found += linear(f"{ours}.{layer}", f"{theirs}.{name}", bias=False)
        return found


def _heads(sizes: Sizes) -> list[Pair]:
    """Either head: the same stands before both."""
    found = []
    if has_head(sizes, "tokens"):
        found += _transform("tokens")
        found.append(Pair("heads.tokens.bias", ("decoder.bias",), per="token"))
    if (named := named_head(sizes)) is not None:
        found += [*_transform(named.name), *linear(f"heads.{named.name}", CLASSES, bias=True)]
    return found


def _transform(head: str) -> list[Pair]:
    dense = linear(f"heads.{head}.transform.dense", "head.dense", bias=False)
    return [*dense, *norm(f"heads.{head}.transform.norm", "head.norm", bias=False)]


_LAYERS = {
    "attend.inward": "attn.Wqkv",
    "attend.outward": "attn.Wo",
    "norm_feed": "mlp_norm",
    "feed.inward": "mlp.Wi",
    "feed.outward": "mlp.Wo",
}


def _near(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Which blocks are local, and how far they see.

    Raises:
        ConfigError: they do not follow one another as they can here.
    """
    every = integer(config, "global_attn_every_n_layers", 3)
    kinds = config.get("layer_types") or [NEAR if number % every else FULL for number in range(depth)]
    if not isinstance(kinds, list):
        raise ConfigError(f"config.json: layer_types = {kinds!r}: expected a list.")
    if NEAR not in kinds:
        return {"reach": 0}
    whole = [number for number, kind in enumerate(kinds) if kind == FULL]
    every = 0 if not whole else (whole[1] if len(whole) > 1 else depth)
    if kinds != [FULL if every and number % every == 0 else NEAR for number in range(depth)]:
        raise ConfigError(
            "config.json: layer_types does not have every so many blocks, from the first on, see all."
        )
    return {"reach": integer(config, "local_attention", 128) // 2, "every": every}
