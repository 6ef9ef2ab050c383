"""How likely a text is, token by token, as the server tells it."""

import math
from typing import Any

import numpy as np

from telos.evaluate.texts import Text, TokenScores
from telos.tokenizer import Tokenizer

__all__ = ["named", "scored"]


def scored(text: str, given: Text, found: TokenScores, tokenizer: Tokenizer) -> dict[str, Any]:
    """One text: its kind of score, nats and bits per byte, and each of its tokens with its text, where that
    stands in the whole, what it adds, and what is likelier in its place."""
    nats = math.fsum(found.nats[~np.isnan(found.nats)].tolist())
    size = len(text.encode())
    tokens = []
    for (begin, end), id, cost, likely in zip(
        _spans(text, given, tokenizer), given.ids.tolist(), found.nats.tolist(), found.likely, strict=True
    ):
        top = [{"id": other, "text": said(tokenizer, other), "logprob": chance} for other, chance in likely]
        told = {"id": id, "text": text[begin:end], "start": begin, "end": end}
        tokens.append({**told, "nats": None if math.isnan(cost) else cost, "top": top})
    per_byte = nats / math.log(2) / size if size else None
    return {"kind": found.kind, "nats": nats, "bits_per_byte": per_byte, "tokens": tokens}


def said(tokenizer: Tokenizer, id: int) -> str:
    """What a token says on its own: bytes that are no whole character are shown as such."""
    return tokenizer.token_bytes(id).decode("utf-8", "replace")


def named(tokenizer: Tokenizer, id: int) -> str:
    """What a token is called among others, as in OpenAI's interface: bytes that are no text by their values,
    so that no two have the same name."""
    data = tokenizer.token_bytes(id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _spans(text: str, given: Text, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Where in the text each token stands, in characters. A character that takes several tokens belongs to
    the one that completes it, so that no character is told twice."""
    if not tokenizer.lossless:
        _, at = tokenizer.encode_offsets(text)
        return [(int(begin), int(end)) for begin, end in at.tolist()]
    stream, spans, end = tokenizer.stream(), [], 0
    for id in given.ids.tolist():
        begin, end = end, end + len(stream.add(id))
        spans.append((begin, end))
    return spans
