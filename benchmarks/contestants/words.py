"""A recurrent training loop like PyTorch's word-language-model example: nn.GRU or nn.LSTM, state carried on.

    settings    cell: "gru" or "lstm"; tied: whether the head shares the embedding's weight
                bfloat16: by autocast
                dropout: a share of the embedding, between the layers and of what comes out; none by default
    shape       embedding, width, depth, window

The text is cut into as many columns as a batch has rows; each window starts from the state that the one
before ended with, detached. Adam, and the gradient shortened to a norm of 1.
"""

import torch
from harness.worker_side import Session, Spec
from torch import Tensor, nn
from torch.nn import functional

from ._text import columns


def run(spec: Spec, session: Session) -> None:
    """Train until the process is ended."""
    torch.manual_seed(0)
    model = Words(spec)
    parameters = list(model.parameters())
    session.noted["parameters"] = sum(p.numel() for p in parameters)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    half, places = spec.settings["bfloat16"], spec.batch * spec.shape["window"]
    state: tuple[Tensor, ...] | None = None
    for ids, target, goes_on in columns(spec.corpus, spec.batch, spec.shape["window"]):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits, state = model(ids, state if goes_on else None)
            loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        session.tick(places, loss.detach().item)


class Words(nn.Module):
    """Embedding, recurrent layers, head."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        shape, vocabulary = spec.shape, spec.corpus["vocabulary"]
        self.embedding = nn.Embedding(vocabulary, shape["embedding"])
        kind = nn.GRU if spec.settings["cell"] == "gru" else nn.LSTM
        drop = spec.settings.get("dropout", 0.0)
        self.drop = nn.Dropout(drop)
        self.layers = kind(shape["embedding"], shape["width"], shape["depth"], batch_first=True, dropout=drop)
        self.head = nn.Linear(shape["width"], vocabulary)
        if spec.settings["tied"]:
            self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (B, T, V) of ids (B, T), and the state after them, detached."""
        out, after = self.layers(self.drop(self.embedding(ids)), _given(state))
        after = after if isinstance(after, tuple) else (after,)
        return self.head(self.drop(out)), tuple(part.detach() for part in after)


def _given(state: tuple[Tensor, ...] | None) -> Tensor | tuple[Tensor, ...] | None:
    """As the layers take it: one tensor for a GRU, two for an LSTM."""
    return state[0] if state is not None and len(state) == 1 else state
