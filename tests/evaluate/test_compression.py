"""Compressors beside the model: the settings they claim, on the bytes they claim."""

import gzip
import json
import lzma
import random
from pathlib import Path

import pytest

from telos.errors import DataError
from telos.evaluate.compression import compress, document_texts, unavailable
from telos.tokenizer import TokenizerSettings, train_tokenizer
from tests.evaluate.world import TEXTS, byte_tokenizer, pair_tokenizer, shards_of


def _prose(seed: int, length: int) -> str:
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(1, 8))) for _ in range(400)]
    return " ".join(draw.choices(words, k=length))


def test_equals_each_compressor_called_directly() -> None:
    """Every document alone with all of preset 9 (a dictionary of 64 MiB), and all together."""
    texts = [_prose(0, 30_000), "", "x", "春眠不觉晓", _prose(1, 700), _prose(2, 9000)]
    datas = [text.encode() for text in texts]
    total = sum(map(len, datas))
    raw = [{"id": lzma.FILTER_LZMA2, "preset": 9}]

    def lzma_of(data: bytes) -> int:
        return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=raw))

    def gzip_of(data: bytes) -> int:
        return len(gzip.compress(data, 9, mtime=0))

    found = compress(texts)
    assert (found.documents, found.bytes) == (len(texts), total)
    assert found.lzma_alone == 8 * sum(map(lzma_of, datas)) / total
    assert found.gzip_alone == 8 * sum(map(gzip_of, datas)) / total
    assert found.lzma_together == 8 * lzma_of(b"".join(datas)) / total
    assert found.gzip_together == 8 * gzip_of(b"".join(datas)) / total
    assert found.lzma_together < found.lzma_alone


def test_nothing_to_compress_is_an_error() -> None:
    """Trap 31: no bytes must not look like perfect compression."""
    for texts in ([], ["", ""]):
        with pytest.raises(DataError, match="nothing to compress"):
            compress(texts)


@pytest.mark.parametrize("kind", ["byte", "pair"])
def test_texts_come_back_exactly(tmp_path: Path, kind: str) -> None:
    """Trap 34: what is compressed is, byte for byte, what the tokenizer was given."""
    tokenizer = byte_tokenizer() if kind == "byte" else pair_tokenizer()
    assert list(document_texts(shards_of(tmp_path, tokenizer), tokenizer)) == list(TEXTS)
    assert unavailable(tokenizer) == ""


def test_a_lossy_vocabulary_is_refused_with_its_reason(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TokenizerSettings(kind="word", size=0), iter(["a b"]))
    shards = shards_of(tmp_path, tokenizer, ["a c"])
    with pytest.raises(DataError, match="lossy"):
        list(document_texts(shards, tokenizer))
    assert "lossy" in unavailable(tokenizer)


def test_the_table_is_json_and_names_the_settings() -> None:
    table = json.loads(json.dumps(compress(["aaaa"]).table()))
    assert "preset 9" in table["settings"]["lzma"] and "9" in table["settings"]["gzip"]
    assert {
        "lzma_alone",
        "lzma_together",
        "gzip_alone",
        "gzip_together",
        "bytes",
        "documents",
    } <= table.keys()
