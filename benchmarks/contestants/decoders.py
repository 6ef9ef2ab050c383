"""A plain training loop, as in nanoGPT, around one of several decoders.

    settings    model: "plain", "litgpt" or "x-transformers"
                bfloat16, compile: whether
    shape       width, depth, heads, inner (of the feed-forward), window

AdamW in its fused form, bfloat16 by autocast, the gradient shortened to a norm of 1, `torch.compile` of the
whole model. The plain model is GPT-2's (Radford et al., 2019) without biases, written from the paper and
PyTorch's reference; litgpt's is its Llama form and x-transformers' that with the same parts, both with their
own loss.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from harness.held_out import scored
from harness.worker_side import Session, Spec
from torch import Tensor, nn
from torch.nn import functional

from ._text import blocks

Loss = Callable[[Tensor], Tensor]
"""Of rows (B, window + 1): the mean loss."""
Logits = Callable[[Tensor], Tensor]
"""Of ids (B, T): what is said at each, (B, T, vocabulary)."""
Made = tuple[nn.Module, Loss, Logits]


def run(spec: Spec, session: Session) -> None:
    """Train until the process is ended."""
    torch.manual_seed(spec.seed)
    model, loss_of, logits = MODELS[spec.settings["model"]](spec.shape, spec.corpus["vocabulary"])
    parameters = list(model.parameters())
    session.noted["parameters"] = sum(p.numel() for p in parameters)
    optimizer = torch.optim.AdamW(
        parameters, lr=session.rate(1e-3), betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    session.steer(optimizer)
    session.scores(validation=lambda: scored(spec.corpus, logits))
    if spec.settings["compile"]:
        loss_of = torch.compile(loss_of)
    half, places = spec.settings["bfloat16"], spec.batch * spec.shape["window"]
    session.begin()
    for rows in blocks(spec.corpus, spec.batch, spec.shape["window"] + 1, spec.seed):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = loss_of(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        session.tick(places, loss.detach().item)


class _Block(nn.Module):
    """Attention and feed-forward, each after a norm and added."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.mixed, self.back = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to the same."""
        parts = self.mixed(self.first(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.back(seen.transpose(1, 2).flatten(-2))
        y: Tensor = x + self.down(functional.gelu(self.up(self.second(x)), approximate="tanh"))
        return y


class _Gpt(nn.Module):
    """Learned places, blocks, a norm, and a head that shares the embedding's weight."""

    def __init__(self, shape: Mapping[str, int], vocabulary: int) -> None:
        super().__init__()
        width = shape["width"]
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(shape["window"], width)
        blocks = (_Block(width, shape["heads"], 4 * width) for _ in range(shape["depth"]))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, bias=False)
        self.apply(_begin)

    def forward(self, rows: Tensor) -> Tensor:
        """The mean loss of rows (B, T + 1)."""
        ids, target = rows[:, :-1], rows[:, 1:]
        return functional.cross_entropy(self.logits(ids).flatten(0, 1), target.flatten())

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, vocabulary) of ids (B, T)."""
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return functional.linear(self.norm(self.blocks(x)), self.tokens.weight)


def _begin(part: nn.Module) -> None:
    if isinstance(part, nn.Linear | nn.Embedding):
        nn.init.normal_(part.weight, std=0.02)


def _plain(shape: Mapping[str, int], vocabulary: int) -> Made:
    model = _Gpt(shape, vocabulary)
    return model, model, model.logits


def _litgpt(shape: Mapping[str, int], vocabulary: int) -> Made:
    """litgpt's GPT with the parts of its Llama configurations, tied, and its own chunked loss."""
    config = importlib.import_module("litgpt.config").Config(
        block_size=shape["window"],
        vocab_size=vocabulary,
        padded_vocab_size=vocabulary,
        n_layer=shape["depth"],
        n_head=shape["heads"],
        n_embd=shape["width"],
        intermediate_size=shape["inner"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    model: Any = importlib.import_module("litgpt.model").GPT(config)
    model.apply(model._init_weights)
    model.transformer.wte.weight = model.lm_head.weight
    entropy = importlib.import_module("litgpt.utils").chunked_cross_entropy

    def loss(rows: Tensor) -> Tensor:
        found: Tensor = entropy(model(rows[:, :-1]), rows[:, 1:])
        return found

    return model, loss, model


def _x_transformers(shape: Mapping[str, int], vocabulary: int) -> Made:
    """x-transformers' decoder with rotary positions, RMSNorm, SwiGLU and flash attention, tied."""
    library = importlib.import_module("x_transformers")
    net = library.TransformerWrapper(
        num_tokens=vocabulary,
        max_seq_len=shape["window"],
        tie_embedding=True,
        attn_layers=library.Decoder(
            dim=shape["width"],
            depth=shape["depth"],
            heads=shape["heads"],
            attn_dim_head=shape["width"] // shape["heads"],
            attn_flash=True,
            rotary_pos_emb=True,
            use_rmsnorm=True,
            ff_glu=True,
            ff_swish=True,
            ff_no_bias=True,
            ff_mult=shape["inner"] / shape["width"],
        ),
    )
    model: nn.Module = library.AutoregressiveWrapper(net)
    return model, model, net


MODELS: Mapping[str, Callable[[Mapping[str, int], int], Made]] = {
    "plain": _plain,
    "litgpt": _litgpt,
    "x-transformers": _x_transformers,
}
"""Each makes a model, its loss and its logits from a shape and the size of the vocabulary."""
