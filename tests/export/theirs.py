"""Tiny models and tokenizers of transformers, every tensor redrawn; and their forward in true float64."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers imports is not ours to mend
    import transformers

transformers.utils.logging.disable_progress_bar()

VOCABULARY, WIDTH, WINDOW = 64, 32, 512


def gpt2(kind: str = "GPT2LMHeadModel", **changed: Any) -> Any:
    sizes = {"vocab_size": VOCABULARY, "n_positions": WINDOW, "n_embd": WIDTH, "n_layer": 2, "n_head": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return getattr(transformers, kind)(transformers.GPT2Config(**{**sizes, **ends, **changed}))


def llama(kind: str = "LlamaForCausalLM", **changed: Any) -> Any:
    sizes = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": WINDOW,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
    }
    return getattr(transformers, kind)(transformers.LlamaConfig(**{**sizes, **changed}))


def bert(kind: str = "BertForPreTraining", **changed: Any) -> Any:
    sizes = {**_ENCODER, "intermediate_size": 48}
    return getattr(transformers, kind)(transformers.BertConfig(**{**sizes, **changed}))


def electra(kind: str = "ElectraForPreTraining", **changed: Any) -> Any:
    sizes = {**_ENCODER, "intermediate_size": 48, "embedding_size": 20}
    return getattr(transformers, kind)(transformers.ElectraConfig(**{**sizes, **changed}))


def modernbert(kind: str = "ModernBertForMaskedLM", **changed: Any) -> Any:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    sizes = {**_ENCODER, **ids, "intermediate_size": 48, "num_hidden_layers": 5, "local_attention": 16}
    return getattr(transformers, kind)(transformers.ModernBertConfig(**{**sizes, **changed}))


def t5(*, own_head: bool = False, **changed: Any) -> Any:
    sizes = {
        "vocab_size": VOCABULARY,
        "d_model": WIDTH,
        "d_kv": 12,
        "d_ff": 48,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    }
    made = transformers.T5ForConditionalGeneration(transformers.T5Config(**{**sizes, **changed}))
    if own_head:  # as in the released weights of v1.1; what transformers draws itself is tied
        made.lm_head.weight = torch.nn.Parameter(made.lm_head.weight.clone())
    return made


_ENCODER = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": WINDOW,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@torch.no_grad()
def redrawn(model: Any, seed: int = 0) -> Any:
    """Every tensor drawn anew, biases and norms included, so that the logits are large: none can hide."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(model.named_parameters()):
        centre = 1.0 if "norm" in name.lower() or ".ln_" in name else 0.0
        spread = 0.3 if tensor.ndim == 1 else 1.5 * tensor.shape[-1] ** -0.5
        if name.endswith("bias"):
            centre = 0.0
        if (
            len(tensor) == 1 and tensor.ndim == 2
        ):  # one answer for each place, which its neighbours' must not hide
            spread *= 10
        if name == "shared.weight":  # T5 v1.0 divides what comes out of it by √width
            spread = WIDTH**0.5
        tensor.copy_(centre + spread * torch.randn(tensor.shape, generator=draw))
    return model.eval()


def saved(model: Any, folder: Path, tokenizer: Any = None) -> Path:
    """As `save_pretrained` writes it, with a vocabulary of as many tokens."""
    model.save_pretrained(folder)
    if tokenizer is None:
        plain_tokenizer(model.config.vocab_size).save(str(folder / "tokenizer.json"))
    else:
        tokenizer.save_pretrained(folder)
    return folder


def plain_tokenizer(size: int) -> Any:
    """A vocabulary of exactly `size` tokens, ours among them."""
    import tokenizers

    from telos.vocabulary import SPECIALS

    words = [*SPECIALS, *(f"w{number}" for number in range(size - len(SPECIALS)))]
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, "w0"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.add_special_tokens(list(SPECIALS))
    return inner


@contextmanager
def exactly(model: Any) -> Iterator[Any]:
    """The model in float64, its own casts to float32 left out and its rotary frequencies in float64.

    transformers rounds norms and angles to float32 whatever the type of the weights; everything else of its
    forward is its own.
    """
    to, as_float = Tensor.to, Tensor.float

    def kept(self: Tensor, *given: Any, **named: Any) -> Tensor:
        if self.dtype == torch.float64 and (torch.float32 in given or named.get("dtype") == torch.float32):
            return self
        return to(self, *given, **named)

    model = model.double()
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name.endswith("inv_freq"):
                exact = _frequencies(module, name, len(buffer))
                torch.testing.assert_close(exact.float(), as_float(buffer), rtol=1e-5, atol=0)
                setattr(module, name, exact)
    Tensor.to, Tensor.float = kept, lambda self: self.double()
    try:
        yield model
    finally:
        Tensor.to, Tensor.float = to, as_float


def _frequencies(module: Any, name: str, pairs: int) -> Tensor:
    """base^(−2i / width), by the base in the configuration."""
    said = module.config.rope_parameters
    layer = name.removesuffix("inv_freq").removesuffix("original_").rstrip("_")
    return said.get(layer, said)["rope_theta"] ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
