"""ELECTRA (Clark et al., 2020): BERT whose embeddings can be narrower than its blocks, with one of two heads:
the discriminator's, which tokens were replaced, or the generator's, hidden tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from telos.export.hf._base import Classifier, Pair, has_head, integer, linear, norm
from telos.export.hf._bert_like import BertLike
from telos.models._base import Model, Sizes

__all__ = ["Electra"]

REPLACED = "replaced"
"""The discriminator's head: one number for each place, the logit of "replaced"."""


@final
class Electra(BertLike):
    """`ElectraForPreTraining`, the discriminator; or without its head `ElectraForMaskedLM`, the generator."""

    style = 'an encoder with positions = "learned", norm = "post", feed = "gelu", any embedding.width'
    body = "electra."
    classifier: ClassVar = Classifier(
        "ElectraForSequenceClassification",
        "classifier.out_proj",
        {},
        "its head for classes has a tanh, and theirs a GELU",
    )
    tied = ("electra.embeddings.word_embeddings.weight", "generator_lm_head.weight")
    derived = ("embeddings.position_ids",)
    width, heads_count, feed_width = 256, 4, 1024

    def asks(self, sizes: Sizes) -> str:
        return REPLACED if has_head(sizes, REPLACED) else super().asks(sizes)

    def kept(self, sizes: Sizes) -> tuple[str, ...]:
        return (self.asks(sizes),)

    def opened_by(self, sizes: Sizes) -> str:
        return "AutoModelForPreTraining" if self.asks(sizes) == REPLACED else super().opened_by(sizes)

    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        e: Any = model
        kind = "ElectraForPreTraining" if self.asks(sizes) == REPLACED else "ElectraForMaskedLM"
        return {
            "architectures": [kind],
            "embedding_size": e.embedding_width,
            **self.sizes(model, sizes),
        }

    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = super().describe(config)
        inside = integer(config, "embedding_size", 128)
        found["embedding"]["width"] = 0 if inside == found["width"] else inside
        return found

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        found = super().pairs(model, sizes)
        if has_head(sizes, REPLACED):
            theirs = "discriminator_predictions"
            found += linear(f"heads.{REPLACED}.transform.dense", f"{theirs}.dense", bias=True)
            found += linear(f"heads.{REPLACED}", f"{theirs}.dense_prediction", bias=True)
        if has_head(sizes, "tokens"):
            theirs = "generator_predictions"
            found += linear("heads.tokens.transform.dense", f"{theirs}.dense", bias=True)
            found += norm("heads.tokens.transform.norm", f"{theirs}.LayerNorm", bias=True)
            found.append(Pair("heads.tokens.bias", ("generator_lm_head.bias",), per="token"))
        return found
