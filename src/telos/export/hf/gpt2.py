"""GPT-2 (Radford et al., 2019): learned positions, LayerNorm, GELU in its tanh form, matrices transposed."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

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
)
from telos.models._base import Model, Sizes

__all__ = ["Gpt2"]


@final
class Gpt2(Architecture):
    """`GPT2LMHeadModel`, or `GPT2ForSequenceClassification`."""

    model = "decoder"
    style = 'a decoder with positions = "learned", norm = "layer", feed = "gelu"'
    reads = "causal"
    body = "transformer."
    classifier: ClassVar = Classifier("GPT2ForSequenceClassification", "score", {"last": {}})
    tied = ("transformer.wte.weight", "lm_head.weight")
    derived = (".attn.bias", ".attn.masked_bias")
    fixed: ClassVar = (
        Fixed("activation_function", "gelu_new", "gelu_new"),
        Fixed("scale_attn_weights", True, True),
        Fixed("scale_attn_by_inverse_layer_idx", False, False),
        Fixed("reorder_and_upcast_attn", False, False),
        Fixed("add_cross_attention", False, False),
    )
    specials: ClassVar = {"begin": "<|endoftext|>", "end": "<|endoftext|>"}

    def misfit(self, model: Model, sizes: Sizes) -> str:
        d: Any = model
        if d.positions.kind != "learned":
            return f"positions are {d.positions.kind}"
        if d.norm.kind != "layer" or d.feed.kind != "gelu":
            return f"norm = {d.norm.kind}, feed = {d.feed.kind}"
        if d.key_heads != d.heads.count or d.heads.normed or d.heads.local.reach:
            return "key heads are shared, normed or local"
        return ""

    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        d: Any = model
        return {
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": sizes.vocabulary,
            "n_positions": sizes.window,
            "n_embd": d.width,
            "n_layer": d.depth,
            "n_head": d.heads.count,
            "n_inner": d.feed_width,
            "layer_norm_epsilon": d.norm.epsilon,
            "tie_word_embeddings": d.tied,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), d.dropout),
            **{each.key: each.value for each in self.fixed},
        }

    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "width": integer(config, "n_embd", 768),
            "depth": integer(config, "n_layer", 12),
            "heads": {"count": integer(config, "n_head", 12)},
            "positions": {"kind": "learned"},
            "norm": {"kind": "layer", "epsilon": figure(config, "layer_norm_epsilon", 1e-5)},
            "feed": {"kind": "gelu", "width": integer(config, "n_inner", 4 * integer(config, "n_embd", 768))},
            "tied": config.get("tie_word_embeddings", True),
            "dropout": figure(config, "resid_pdrop", 0.1),
        }

    def places(self, config: Mapping[str, Any]) -> int:
        return integer(config, "n_positions", 1024)

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        d: Any = model
        found = [
            Pair("embedding.weight", ("transformer.wte.weight",), per="token"),
            Pair("places.weight", ("transformer.wpe.weight",), per="place"),
            *norm("norm", "transformer.ln_f", bias=True),
        ]
        for number in range(d.depth):
            ours, theirs = f"blocks.{number}", f"transformer.h.{number}"
            found += norm(f"{ours}.norm_attend", f"{theirs}.ln_1", bias=True)
            found += norm(f"{ours}.norm_feed", f"{theirs}.ln_2", bias=True)
            for layer, name in _LAYERS.items():
                found += linear(f"{ours}.{layer}", f"{theirs}.{name}", bias=True, turned=True)
        if not d.tied and has_head(sizes, "tokens"):
            found.append(Pair("heads.tokens.weight", ("lm_head.weight",), per="token"))
        if (named := named_head(sizes)) is not None:
            found += linear(f"heads.{named.name}", self.classifier.head, bias=False)
        return found


_LAYERS = {
    "attend.inward": "attn.c_attn",
    "attend.outward": "attn.c_proj",
    "feed.inward": "mlp.c_fc",
    "feed.outward": "mlp.c_proj",
}
