"""Transformers' Trainer, on GPT-2, BERT or T5 of a given shape.

    settings    model: "gpt2", "bert" or "t5"
                arguments: of TrainingArguments, beyond what ends the run and keeps it quiet
    shape       width, depth, heads, inner, window, for T5 also head

Dropout is as the work's recipe has it (`dropout` in settings, a share). The rows come ready, as after the
`group_texts` of Transformers' own scripts; masks are drawn by its DataCollatorForLanguageModeling, spans by
`_spans`, for which it has no collator.
"""

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from harness.held_out import scored
from harness.worker_side import Held, Session, Spec
from torch import Tensor

from . import _spans
from ._text import stream

Rows = torch.utils.data.Dataset[dict[str, Any]]
Collate = Callable[[Sequence[Any]], dict[str, Tensor]]


def run(spec: Spec, session: Session) -> None:
    """Train until the process is ended."""
    library = importlib.import_module("transformers")
    library.set_seed(spec.seed)
    model, rows, collate = MODELS[spec.settings["model"]](spec, library)
    session.noted["parameters"] = sum(p.numel() for p in model.parameters())
    arguments = library.TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        max_steps=1_000_000,
        save_strategy="no",
        per_device_train_batch_size=spec.batch,
        learning_rate=session.rate(5e-5),
        seed=spec.seed,
        **({"weight_decay": 0.1, "adam_beta2": 0.95} if spec.course else {}),
        **spec.settings["arguments"],
    )
    session.noted["settings"] = {"optimizer": str(arguments.optim), "rate": arguments.learning_rate}
    callback, kind = _reporter(session, library), _keeping(session, library)
    trainer = kind(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[callback]
    )
    callback.trainer = trainer
    session.scores(validation=lambda: _scored(spec, model))
    trainer.train()


def _scored(spec: Spec, model: Any) -> Held:
    """A causal model's score of held-out text, at rest."""
    model.eval()
    try:
        return scored(spec.corpus, lambda ids: model(input_ids=ids).logits)
    finally:
        model.train()


def _keeping(session: Session, library: Any) -> Any:
    """The Trainer, with the loss and the number of places of the step before at hand; its rate goes by time
    where the session has a schedule."""

    class Keeping(library.Trainer):  # type: ignore[misc]
        last = torch.tensor(float("nan"))
        places = 0

        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Tensor:
            self.places = _places(inputs)
            self.last = super().training_step(model, inputs, *rest, **more)
            return self.last

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            if not session.spec.course:
                return super().create_scheduler(num_training_steps, optimizer)
            chosen = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, lambda _: session.factor())
            return self.lr_scheduler

    return Keeping


def _places(inputs: Mapping[str, Tensor]) -> int:
    """Tokens read: those that go in, and the labels where they are a text of their own, read by a decoder."""
    ids, labels = inputs["input_ids"], inputs["labels"]
    return ids.numel() + (labels.numel() if labels.shape != ids.shape else 0)


def _reporter(session: Session, library: Any) -> Any:
    class Reporter(library.TrainerCallback):  # type: ignore[misc]
        trainer: Any = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            session.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            session.tick(self.trainer.places, lambda: float(self.trainer.last))

    return Reporter()


class _Blocks(Rows):
    """The stream cut into equal blocks, each made into a row."""

    def __init__(self, spec: Spec, length: int, row: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self._ids, self._length, self._row = stream(spec.corpus), length, row

    def __len__(self) -> int:
        return len(self._ids) // self._length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = self._ids[index * self._length : (index + 1) * self._length].astype(np.int64)
        return self._row(torch.from_numpy(ids))


def _gpt2(spec: Spec, library: Any) -> tuple[Any, Rows, Collate]:
    shape, drop = spec.shape, spec.settings["dropout"]
    config = library.GPT2Config(
        vocab_size=spec.corpus["vocabulary"],
        n_positions=shape["window"],
        n_embd=shape["width"],
        n_layer=shape["depth"],
        n_head=shape["heads"],
        resid_pdrop=drop,
        embd_pdrop=drop,
        attn_pdrop=drop,
        use_cache=False,
        bos_token_id=spec.corpus["special"]["begin"],
        eos_token_id=spec.corpus["special"]["end"],
    )
    rows = _Blocks(spec, shape["window"], lambda ids: {"input_ids": ids, "labels": ids})
    return library.GPT2LMHeadModel(config), rows, library.default_data_collator


def _bert(spec: Spec, library: Any) -> tuple[Any, Rows, Collate]:
    shape, drop, special = spec.shape, spec.settings["dropout"], spec.corpus["special"]
    config = library.BertConfig(
        vocab_size=spec.corpus["vocabulary"],
        hidden_size=shape["width"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["inner"],
        max_position_embeddings=shape["window"],
        hidden_dropout_prob=drop,
        attention_probs_dropout_prob=drop,
        pad_token_id=special["pad"],
    )
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_file=spec.corpus["tokenizer"],
        pad_token="<|pad|>",
        mask_token="<|mask|>",
        cls_token="<|begin|>",
        sep_token="<|separate|>",
    )
    first, last = torch.tensor([special["begin"]]), torch.tensor([special["separate"]])
    given = torch.zeros(shape["window"], dtype=torch.int64)
    given[[0, -1]] = 1

    def row(ids: Tensor) -> dict[str, Tensor]:
        return {"input_ids": torch.cat([first, ids, last]), "special_tokens_mask": given}

    collate = library.DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=0.15)
    return library.BertForMaskedLM(config), _Blocks(spec, shape["window"] - 2, row), collate


def _t5(spec: Spec, library: Any) -> tuple[Any, Rows, Collate]:
    shape, special = spec.shape, spec.corpus["special"]
    config = library.T5Config(
        vocab_size=spec.corpus["vocabulary"],
        d_model=shape["width"],
        d_kv=shape["head"],
        d_ff=shape["inner"],
        num_layers=shape["depth"],
        num_heads=shape["heads"],
        dropout_rate=spec.settings["dropout"],
        use_cache=False,
        pad_token_id=special["pad"],
        eos_token_id=special["end"],
        decoder_start_token_id=special["pad"],
    )
    length = _spans.text_length(shape["window"])
    rows = _Blocks(spec, length, lambda ids: {"input_ids": ids})
    collate = _spans.Collator(spec.corpus["marks"], special["end"])
    return library.T5ForConditionalGeneration(config), rows, collate


MODELS: Mapping[str, Callable[[Spec, Any], tuple[Any, Rows, Collate]]] = {
    "gpt2": _gpt2,
    "bert": _bert,
    "t5": _t5,
}
"""Each makes a model, its rows and what makes a batch of rows."""
