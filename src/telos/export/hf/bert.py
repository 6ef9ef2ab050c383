"""BERT (Devlin et al., 2019), and the two heads it was trained with: hidden tokens, and whether one sentence
follows another."""

from typing import Any, final

from telos.export.hf._base import Pair, has_head, linear, norm
from telos.export.hf._bert_like import BertLike
from telos.models._base import Model, Sizes

__all__ = ["Bert"]

NEXT = "follows"
"""The head of the second task. Class 1: the second follows the first, which is class 0 of theirs."""


@final
class Bert(BertLike):
    """`BertForMaskedLM`, or with the second head `BertForPreTraining`."""

    style = 'an encoder with positions = "learned", norm = "post", feed = "gelu"'
    heads = ("tokens", NEXT)
    body = "bert."
    tied = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    derived = ("embeddings.position_ids", "cls.predictions.decoder.bias")

    def misfit(self, model: Model, sizes: Sizes) -> str:
        e: Any = model
        if e.widened:
            return f"embedding.width = {e.embedding.width}"
        return super().misfit(model, sizes) or ("" if has_head(sizes, "tokens") else "it says no tokens")

    def opened_by(self, sizes: Sizes) -> str:
        return "AutoModelForPreTraining" if has_head(sizes, NEXT) else "AutoModelForMaskedLM"

    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        kind = "BertForPreTraining" if has_head(sizes, NEXT) else "BertForMaskedLM"
        return {"architectures": [kind], **self.sizes(model, sizes)}

    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        found = super().pairs(model, sizes)
        if has_head(sizes, "tokens"):
            found += [
                *linear("heads.tokens.transform.dense", "cls.predictions.transform.dense", bias=True),
                *norm("heads.tokens.transform.norm", "cls.predictions.transform.LayerNorm", bias=True),
                Pair("heads.tokens.bias", ("cls.predictions.bias",), per="token"),
            ]
        if has_head(sizes, NEXT):
            found += linear(f"heads.{NEXT}.transform.dense", "bert.pooler.dense", bias=True)
            second = linear(f"heads.{NEXT}", "cls.seq_relationship", bias=True)
            found += [pair._replace(upside_down=True) for pair in second]
        return found
