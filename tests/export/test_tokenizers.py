"""Vocabularies of others: the same ids as AutoTokenizer gives, special tokens in their places, both ways."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers as library
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from telos.config import read
from telos.errors import ConfigError, DataError
from telos.export._base import write
from telos.export.hf._source import describe
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.export import theirs
from tests.export.test_hf import trained

TEXTS = [
    "the cat sat on the mat, and the dog looked on",
    "床前明月光，疑是地上霜。",
    "def f(x):\n    return x",
] * 9
FUZZ = [
    "",
    " ",
    "the cat",
    "  two  spaces ",
    "床前明月光，疑是地上霜。\n举头望明月",
    "naïve café ﬁn Ａ",
    "👩‍👩‍👧 emoji\tand\r\nlines",
    "العربية हिन्दी",
    "x" * 300,
]


def trained_on(model: Any, trainer: Any, pre: Any, decoder: Any, normalizer: Any = None) -> library.Tokenizer:
    inner = library.Tokenizer(model)
    inner.pre_tokenizer, inner.decoder = pre, decoder
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.train_from_iterator(TEXTS, trainer)
    return inner


def gpt2() -> Any:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner = trained_on(models.BPE(), trainer, level, decoders.ByteLevel())
    return wrapped(inner, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def llama() -> Any:
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False)
    inner = trained_on(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True),
        trainer,
        pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
    )
    table = json.loads(inner.to_str())  # what the trainer needs as special tokens, Llama has as ordinary ones
    table["added_tokens"] = [token for token in table["added_tokens"] if "<0x" not in token["content"]]
    inner = library.Tokenizer.from_str(json.dumps(table))
    return wrapped(inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def bert() -> Any:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    inner = trained_on(
        models.WordPiece(unk_token="[UNK]"),
        trainer,
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(),
        normalizers.BertNormalizer(),
    )
    inner.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    named = {f"{part}_token": f"[{part.upper()}]" for part in ("pad", "cls", "sep", "mask", "unk")}
    return wrapped(inner, **named)


def t5() -> Any:
    marks = [f"<extra_id_{number}>" for number in range(4)]
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    inner = trained_on(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace())
    inner.post_processor = library.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return wrapped(
        inner, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", additional_special_tokens=marks
    )


def wrapped(inner: library.Tokenizer, **special: Any) -> Any:
    return theirs.transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **special)


KINDS: dict[str, tuple[Callable[[], Any], Callable[..., Any], dict[str, str]]] = {
    "gpt2": (gpt2, theirs.gpt2, {"begin": "<|endoftext|>", "end": "<|endoftext|>"}),
    "llama": (llama, theirs.llama, {"begin": "<s>", "end": "</s>"}),
    "bert": (
        bert,
        theirs.bert,
        {"begin": "[CLS]", "end": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "separate": "[SEP]"},
    ),
    "t5": (t5, theirs.t5, {"begin": "<pad>", "end": "</s>", "pad": "<pad>"}),
}


@pytest.fixture(scope="module", params=KINDS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Tokenizer, Any]:
    """Theirs, ours from the same folder, and what special tokens it should have."""
    make, model, special = KINDS[request.param]
    tokenizer = make()
    folder = theirs.saved(model(vocab_size=len(tokenizer)), tmp_path_factory.mktemp("hf"), tokenizer)
    found = read(TokenizerSettings, {**describe(str(folder)).tokenizer, "path": folder / "tokenizer.json"})
    ours = train_tokenizer(found, iter(()))
    opened = theirs.transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    return opened, ours, special


def test_ids_are_those_of_auto_tokenizer(both: tuple[Any, Tokenizer, Any]) -> None:
    """Trap 88: on text in several scripts."""
    theirs_, ours, _ = both
    for text in (*TEXTS[:3], *FUZZ):
        ids = ours.encode(text).tolist()
        assert ids == theirs_(text, add_special_tokens=False)["input_ids"], text
        assert ours.decode(ids) == theirs_.decode(ids, skip_special_tokens=True), text


def test_text_that_looks_like_a_special_token_never_becomes_one(both: tuple[Any, Tokenizer, Any]) -> None:
    """Trap 52: also where the model of a file holds them as ordinary pieces, as Llama's and T5's do."""
    _, ours, _ = both
    for text in ("a <|endoftext|> b", "[MASK][SEP]", "</s><s>", "<pad> <extra_id_0>", "<|end|>"):
        assert ours.special_ids & set(ours.encode(text).tolist()) <= {ours.unknown}, text


def test_special_tokens_play_their_parts(both: tuple[Any, Tokenizer, Any], tmp_path: Path) -> None:
    """Trap 88: those that the file has keep their ids, the others come after all; a file written and read
    again says the same."""
    theirs_, ours, special = both
    for name, token in special.items():
        assert getattr(ours, name) == ours.special(name) == theirs_.convert_tokens_to_ids(token)
    added = {"begin", "end", "pad", "mask", "separate"} - special.keys()
    assert {getattr(ours, name) for name in added} == set(range(len(theirs_), len(theirs_) + len(added)))
    assert ours.size == len(theirs_) + len(added)
    ours.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.hash == ours.hash and (again.begin, again.end, again.mask) == (
        ours.begin,
        ours.end,
        ours.mask,
    )
    assert library.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size() == ours.size


@given(text=st.text(max_size=40))
@settings(max_examples=60)
def test_any_text_has_the_ids_of_the_exported_tokenizer(text: str) -> None:
    ours, opened = exported()
    assert opened(text, add_special_tokens=False)["input_ids"] == ours.encode(text).tolist()
    assert opened(text)["input_ids"] == [ours.begin, *ours.encode(text).tolist()]


_EXPORTED: list[tuple[Tokenizer, Any]] = []


def exported() -> tuple[Tokenizer, Any]:
    """A vocabulary of ours, and AutoTokenizer of what was written."""
    if not _EXPORTED:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            subject = trained("llama")
            write("hf", subject, Path(folder) / "out")
            opened = theirs.transformers.AutoTokenizer.from_pretrained(Path(folder) / "out")
        _EXPORTED.append((subject.tokenizer, opened))
    return _EXPORTED[0]


def test_special_names_need_a_file_that_has_them(tmp_path: Path) -> None:
    gpt2().backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"'<s>', which is to play the part of <\|begin\|>, is not in it"):
        Tokenizer.load(tmp_path / "tokenizer.json", played={"begin": "<s>"})
    with pytest.raises(ConfigError, match="special names tokens of an existing file"):
        read(TokenizerSettings, {"special": {"begin": "<s>"}})


def test_a_folder_without_tokenizer_json_says_how_to_make_one(tmp_path: Path) -> None:
    folder = theirs.saved(theirs.gpt2(), tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"AutoTokenizer\.from_pretrained"):
        describe(str(folder))
