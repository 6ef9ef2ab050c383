"""keras-hub's GPT-2 on the torch backend, trained by Keras' own `fit`.

settings    policy: Keras' dtype policy, "float32" or "mixed_bfloat16"
shape       width, depth, heads, inner, window
"""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from harness.worker_side import Session, Spec

from ._text import blocks


def run(spec: Spec, session: Session) -> None:
    """Train until the process is ended."""
    keras, hub = importlib.import_module("keras"), importlib.import_module("keras_hub")
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(spec.settings["policy"])
    shape = spec.shape
    backbone = hub.models.GPT2Backbone(
        vocabulary_size=spec.corpus["vocabulary"],
        num_layers=shape["depth"],
        num_heads=shape["heads"],
        hidden_dim=shape["width"],
        intermediate_dim=4 * shape["width"],
        dropout=0.0,
        max_sequence_length=shape["window"],
    )
    logits = backbone.token_embedding(backbone.output, reverse=True)
    model = keras.Model(backbone.input, logits)  # GPT2CausalLM of the same, which takes no generator to fit
    session.noted["parameters"] = model.count_params()
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-3, weight_decay=0.1, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        _batches(spec), steps_per_epoch=1_000_000, verbose=0, callbacks=[_reporter(spec, session, keras)]
    )


def _batches(spec: Spec) -> Iterator[tuple[dict[str, Any], Any]]:
    """Rows and what comes next, as Keras takes them."""
    mask = np.ones((spec.batch, spec.shape["window"]), bool)
    for rows in blocks(spec.corpus, spec.batch, spec.shape["window"] + 1):
        ids = rows.numpy().astype(np.int32)
        yield {"token_ids": ids[:, :-1], "padding_mask": mask}, ids[:, 1:]


def _reporter(spec: Spec, session: Session, keras: Any) -> Any:
    places = spec.batch * spec.shape["window"]

    class Reporter(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            session.tick(places, lambda: (logs or {}).get("loss"))

    return Reporter()
