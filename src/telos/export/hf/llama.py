"""Llama (Touvron et al., 2023): rotary positions in two halves, RMSNorm, SwiGLU, shared key heads."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from telos.errors import ConfigError
from telos.export.hf._base import (
    Architecture,
    Classifier,
    Fixed,
    Pair,
    figure,
    has_head,
    integer,
    linear,
    named_head,
    norm,
    rotary_base,
    stacked,
)
from telos.models._base import Model, Sizes

__all__ = ["Llama"]


@final
class Llama(Architecture):
    """`LlamaForCausalLM`, or `LlamaForSequenceClassification`."""

    model = "decoder"
    style = 'a decoder with positions = "rotary", norm = "rms", feed = "swiglu"'
    reads = "causal"
    body = "model."
    classifier: ClassVar = Classifier("LlamaForSequenceClassification", "score", {"last": {}})
    tied = ("model.embed_tokens.weight", "lm_head.weight")
    derived = ("rotary_emb.inv_freq",)
    fixed: ClassVar = (
        Fixed("hidden_act", "silu", "silu"),
        Fixed("attention_bias", False, False),
        Fixed("mlp_bias", False, False),
    )
    specials: ClassVar = {"begin": "<s>", "end": "</s>"}

    def misfit(self, model: Model, sizes: Sizes) -> str:
        d: Any = model
        if d.positions.kind != "rotary":
            return f"positions are {d.positions.kind}"
        if d.norm.kind != "rms" or d.feed.kind != "swiglu":
            return f"norm = {d.norm.kind}, feed = {d.feed.kind}"
        if d.feed.experts.count:
            return "it has experts"
        if d.heads.normed or d.heads.local.reach:
            return "heads are normed or local"
        return ""

    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        d: Any = model
        return {
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.window,
            "hidden_size": d.width,
            "num_hidden_layers": d.depth,
            "num_attention_heads": d.heads.count,
            "num_key_value_heads": d.key_heads,
            "head_dim": d.head_width,
            "intermediate_size": d.feed_width,
            "rope_parameters": {"rope_type": "default", "rope_theta": d.positions.base},
            "rope_theta": d.positions.base,
            "rms_norm_eps": d.norm.epsilon,
            "attention_dropout": d.dropout,
            "tie_word_embeddings": d.tied,
            **{each.key: each.value for each in self.fixed},
        }

    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        width, heads = integer(config, "hidden_size", 4096), integer(config, "num_attention_heads", 32)
        if config.get("head_dim") not in (None, width // heads):
            raise ConfigError(
                f"config.json: head_dim = {config['head_dim']}; the heads of the decoder here are "
                f"width / heads = {width // heads} wide."
            )
        keys = integer(config, "num_key_value_heads", heads)
        return {
            "width": width,
            "depth": integer(config, "num_hidden_layers", 32),
            "heads": {"count": heads, "keys": 0 if keys == heads else keys},
            "positions": {"kind": "rotary", "base": rotary_base(config)},
            "norm": {"kind": "rms", "epsilon": figure(config, "rms_norm_eps", 1e-6)},
            "feed": {"kind": "swiglu", "width": integer(config, "intermediate_size", 11008)},
            "tied": config.get("tie_word_embeddings", False),
            "dropout": figure(config, "attention_dropout", 0.0),
        }

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        d: Any = model
        keys = d.key_heads * d.head_width
        found = [
            Pair("embedding.weight", ("model.embed_tokens.weight",), per="token"),
            *norm("norm", "model.norm", bias=False),
        ]
        for number in range(d.depth):
            ours, theirs = f"blocks.{number}", f"model.layers.{number}"
            attend = [f"{theirs}.self_attn.{name}_proj" for name in "qkv"]
            feed = [f"{theirs}.mlp.{name}_proj" for name in ("gate", "up")]
            found += norm(f"{ours}.norm_attend", f"{theirs}.input_layernorm", bias=False)
            found += norm(f"{ours}.norm_feed", f"{theirs}.post_attention_layernorm", bias=False)
            found += stacked(f"{ours}.attend.inward", attend, (d.width, keys, keys), bias=False)
            found += stacked(f"{ours}.feed.inward", feed, (d.feed_width, d.feed_width), bias=False)
            found += linear(f"{ours}.attend.outward", f"{theirs}.self_attn.o_proj", bias=False)
            found += linear(f"{ours}.feed.outward", f"{theirs}.mlp.down_proj", bias=False)
        if not d.tied and has_head(sizes, "tokens"):
            found.append(Pair("heads.tokens.weight", ("lm_head.weight",), per="token"))
        if (named := named_head(sizes)) is not None:
            found += linear(f"heads.{named.name}", self.classifier.head, bias=False)
        return found
