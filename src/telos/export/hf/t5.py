"""T5 (Raffel et al., 2020), v1.0 (ReLU, tied and scaled head) and v1.1 (gated GELU, a head of its own)."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from telos.errors import ConfigError
from telos.export.hf._base import Architecture, Fixed, Pair, figure, integer, linear, norm, stacked
from telos.models._base import Model, Sizes
from telos.models._relative import root

__all__ = ["T5"]

_FEEDS = {"relu": "relu", "geglu": "gated-gelu"}


@final
class T5(Architecture):
    """`T5ForConditionalGeneration`."""

    model = "encoder_decoder"
    style = "an encoder_decoder"
    reads = "pair"
    tied = ("shared.weight", "lm_head.weight")
    derived = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    fixed: ClassVar = (
        Fixed("layer_norm_epsilon", 1e-6, 1e-6),
        Fixed("is_encoder_decoder", True, True),
    )
    specials: ClassVar = {"begin": "<pad>", "end": "</s>", "pad": "<pad>"}

    def misfit(self, model: Model, sizes: Sizes) -> str:
        return ""

    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        t: Any = model
        return {
            "architectures": ["T5ForConditionalGeneration"],
            "vocab_size": sizes.vocabulary,
            "n_positions": sizes.window,
            "d_model": t.width,
            "d_kv": t.head_width,
            "d_ff": t.feed_width,
            "num_layers": t.depth.encoder,
            "num_decoder_layers": t.decoder_depth,
            "num_heads": t.heads.count,
            "relative_attention_num_buckets": t.relative.buckets,
            "relative_attention_max_distance": t.relative.distance,
            "feed_forward_proj": _FEEDS[t.feed.kind],
            "dropout_rate": t.dropout,
            "tie_word_embeddings": t.tied,
            **{each.key: each.value for each in self.fixed},
        }

    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        feeds = {theirs: ours for ours, theirs in _FEEDS.items()}
        feed = config.get("feed_forward_proj", "relu")
        if not isinstance(feed, str) or feed not in feeds:
            raise ConfigError(f"config.json: feed_forward_proj = {feed!r}: known are {', '.join(feeds)}.")
        encoder = integer(config, "num_layers", 6)
        scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
        return {
            "width": integer(config, "d_model", 512),
            "depth": {"encoder": encoder, "decoder": integer(config, "num_decoder_layers", encoder)},
            "heads": {"count": integer(config, "num_heads", 8), "width": integer(config, "d_kv", 64)},
            "relative": {
                "buckets": integer(config, "relative_attention_num_buckets", 32),
                "distance": integer(config, "relative_attention_max_distance", 128),
            },
            "feed": {"kind": feeds[feed], "width": integer(config, "d_ff", 2048)},
            "tied": scaled,
            "dropout": figure(config, "dropout_rate", 0.1),
        }

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        t: Any = model
        found = [Pair("embedding.weight", ("shared.weight",), per="token", times=1 / t.reduced)]
        for side, depth in (("encoder", t.depth.encoder), ("decoder", t.decoder_depth)):
            first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            found.append(Pair(f"{side}.bias.table.weight", (first,)))
            found += norm(f"{side}.norm", f"{side}.final_layer_norm", bias=False)
            for number in range(depth):
                ours, theirs = f"{side}.blocks.{number}", f"{side}.block.{number}.layer"
                found += _attention(t, f"{ours}.attend", f"{theirs}.0.SelfAttention")
                found += norm(f"{ours}.norm_attend", f"{theirs}.0.layer_norm", bias=False)
                if side == "decoder":
                    found += _attention(t, f"{ours}.read", f"{theirs}.1.EncDecAttention")
                    found += norm(f"{ours}.norm_read", f"{theirs}.1.layer_norm", bias=False)
                last = f"{theirs}.{2 if side == 'decoder' else 1}"
                found += _feed(t, f"{ours}.feed", f"{last}.DenseReluDense")
                found += norm(f"{ours}.norm_feed", f"{last}.layer_norm", bias=False)
        if not t.tied:
            found.append(Pair("heads.tokens.weight", ("lm_head.weight",), per="token", spare="shared.weight"))
        return found


def _attention(t: Any, ours: str, theirs: str) -> list[Pair]:
    return [
        Pair(f"{ours}.query.weight", (f"{theirs}.q.weight",), times=root(t.head_width)),
        *stacked(f"{ours}.memory", [f"{theirs}.k", f"{theirs}.v"], (t.inner, t.inner), bias=False),
        *linear(f"{ours}.outward", f"{theirs}.o", bias=False),
    ]


def _feed(t: Any, ours: str, theirs: str) -> list[Pair]:
    outward = linear(f"{ours}.outward", f"{theirs}.wo", bias=False)
    if t.feed.kind == "relu":
        return [*linear(f"{ours}.inward", f"{theirs}.wi", bias=False), *outward]
    gates = [f"{theirs}.wi_0", f"{theirs}.wi_1"]
    return [*stacked(f"{ours}.inward", gates, (t.feed_width, t.feed_width), bias=False), *outward]
