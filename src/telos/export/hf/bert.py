"""BERT (Devlin et al., 2019), and the two heads it was trained with: hidden tokens, and whether one sentence
follows another. Or a head for classes, with the pooler of the second."""

from typing import Any, ClassVar, final

from telos.export.hf._base import Classifier, Pair, classifies, has_head, linear, named_head, norm
from telos.export.hf._bert_like import BertLike
from telos.models._base import Model, Sizes

__all__ = ["Bert"]

NEXT = "follows"
"""The head of the second task. Class 1: the second follows the first, which is class 0 of theirs."""


@final
class Bert(BertLike):
    """`BertForMaskedLM`, or with the second head `BertForPreTraining`; `BertForSequenceClassification`."""

    style = 'an encoder with positions = "learned", norm = "post", feed = "gelu"'
    heads = ("tokens", NEXT)
    body = "bert."
    classifier: ClassVar = Classifier("BertForSequenceClassification", "classifier", {"first": {}})
    tied = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    derived = ("embeddings.position_ids", "cls.predictions.decoder.bias")

    def misfit(self, model: Model, sizes: Sizes) -> str:
        e: Any = model
        if e.widened:
            return f"embedding.width = {e.embedding.width}"
        says = has_head(sizes, "tokens") or classifies(sizes)
        return super().misfit(model, sizes) or ("" if says else "it says no tokens")

    def opened_by(self, sizes: Sizes) -> str:
        pretrained = has_head(sizes, NEXT) and not classifies(sizes)
        return "AutoModelForPreTraining" if pretrained else super().opened_by(sizes)

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
        if (named := named_head(sizes)) is not None:
            found += linear(f"heads.{named.name}.transform.dense", "bert.pooler.dense", bias=True)
            found += linear(f"heads.{named.name}", self.classifier.head, bias=True)
        return found
