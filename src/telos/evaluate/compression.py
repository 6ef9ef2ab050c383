"""What general-purpose compressors reach on the same bytes: the yardstick beside a model's bits per byte.

Raw LZMA2 at preset 9 (no container, no checksum; a dictionary of 64 MiB) and gzip at level 9 (deflate with
its 18 bytes of header and trailer), each in two ways: every document alone, as a model sees them, and all of
them one after the other.
"""

import dataclasses
import lzma
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from telos.data.shards import Shards
from telos.errors import DataError
from telos.tokenizer import Tokenizer

__all__ = ["Compression", "compress", "document_texts", "unavailable"]

_DICTIONARY = 1 << 26  # bytes: what preset 9 means


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """Bits per byte of the text, by compressor and by what was compressed at once."""

    documents: int
    bytes: int
    """UTF-8 bytes of all texts: what every figure is divided by."""
    lzma_alone: float
    """Raw LZMA2, preset 9, each document alone."""
    lzma_together: float
    """Raw LZMA2, preset 9, all documents one after the other."""
    gzip_alone: float
    """gzip -9, each document alone."""
    gzip_together: float
    """gzip -9, all documents one after the other."""

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON, with the compressors' settings."""
        settings = {"lzma": "LZMA2, FORMAT_RAW, preset 9", "gzip": "deflate level 9 in a gzip container"}
        return {**dataclasses.asdict(self), "settings": settings}


def compress(texts: Iterable[str]) -> Compression:
    """Compress the UTF-8 bytes of the texts, each alone and all together, in memory for one text at a time.

    Raises:
        DataError: there is not a single byte to compress.
    """
    documents = size = lzma_alone = gzip_alone = 0
    lzma_stream, gzip_stream = _lzma(_DICTIONARY), _gzip()
    lzma_together = gzip_together = 0
    for text in texts:
        data = text.encode()
        documents, size = documents + 1, size + len(data)
        lzma_alone += _length(_lzma(_enough(len(data))), data)
        gzip_alone += _length(_gzip(), data)
        lzma_together += len(lzma_stream.compress(data))
        gzip_together += len(gzip_stream.compress(data))
    if not size:
        raise DataError("There is nothing to compress: the texts are empty. Hold out more text (data.split).")
    return Compression(
        documents=documents,
        bytes=size,
        lzma_alone=8 * lzma_alone / size,
        lzma_together=8 * (lzma_together + len(lzma_stream.flush())) / size,
        gzip_alone=8 * gzip_alone / size,
        gzip_together=8 * (gzip_together + len(gzip_stream.flush())) / size,
    )


def unavailable(tokenizer: Tokenizer) -> str:
    """Why the texts of prepared data cannot be had back, or nothing when they can."""
    if tokenizer.lossless:
        return ""
    return "The vocabulary is lossy, so that the text cannot be had back from its tokens to compress it."


def document_texts(shards: Shards, tokenizer: Tokenizer) -> Iterator[str]:
    """The exact text of each document, decoded from its tokens.

    Raises:
        DataError: the vocabulary is lossy.
    """
    if reason := unavailable(tokenizer):
        raise DataError(reason)
    offsets = shards.offsets
    for document in range(len(offsets) - 1):
        yield tokenizer.decode(shards.ids[int(offsets[document]) : int(offsets[document + 1])])


def _enough(size: int) -> int:
    """A dictionary as large as the text: the output of preset 9's 64 MiB in a tenth of the time."""
    return min(_DICTIONARY, max(1 << 16, 1 << max(size - 1, 0).bit_length()))


def _lzma(dictionary: int) -> lzma.LZMACompressor:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": dictionary}]
    return lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=filters)


def _gzip() -> "zlib._Compress":
    return zlib.compressobj(9, zlib.DEFLATED, 31)  # 31: the largest window, in a gzip container


def _length(compressor: "lzma.LZMACompressor | zlib._Compress", data: bytes) -> int:
    return len(compressor.compress(data)) + len(compressor.flush())
