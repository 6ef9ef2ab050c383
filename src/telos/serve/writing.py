"""`/v1/completions` and `/v1/chat/completions`: what was asked becomes rows that grow, and rows become an
answer, whole or piece by piece, in OpenAI's form."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from telos.errors import TelosError
from telos.generate._rows import Asked, Gap, Row, Talk
from telos.serve.answers import DONE, EventStream, event, whole_answer
from telos.serve.mail import Mail
from telos.serve.models import Served, given_tokens
from telos.serve.refusals import Refused, failed
from telos.serve.schemas import ChatRequest, CompletionRequest, TextRequest
from telos.serve.scores import named

__all__ = ["chat", "complete"]

_SHORT = 16
"""Tokens of a completion where nothing is said of it, as in OpenAI's interface."""


async def complete(model: Served, asked: CompletionRequest, request: Request) -> Response:
    """`POST /v1/completions`."""
    model.must("complete" if asked.suffix is None else "infill")
    texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    if not texts:
        raise Refused(400, "prompt: give one text at least.", param="prompt")
    prompts = [text if asked.suffix is None else Gap(text, asked.suffix) for text in texts]
    writing = _Writing(model, asked, prompts, asked.max_tokens or _SHORT)
    shape = _Completion(model, asked.logprobs, texts if asked.echo else [])
    return await writing.answer(shape, request, asked.logprobs)


async def chat(model: Served, asked: ChatRequest, request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    model.must("chat")
    talk = Talk(tuple(each.turn() for each in asked.messages))
    length = asked.max_completion_tokens or asked.max_tokens or model.settings.limits.tokens
    return await _Writing(model, asked, [talk], length).answer(_Chat(), request, None)


class _Completion:
    """The form of completions."""

    prefix, kind, chunk = "cmpl-", "text_completion", "text_completion"

    def __init__(self, model: Served, noted: int | None, echo: Sequence[str]) -> None:
        self._tokenizer, self._noted, self._echo = model.run.tokenizer, noted, echo

    def whole(self, row: Row, index: int, samples: int) -> dict[str, Any]:
        """A finished sample."""
        noted = None if self._noted is None else self._logprobs(row)
        return {"text": self._before(index, samples) + row.words.text, "logprobs": noted}

    def begun(self, index: int, samples: int) -> dict[str, Any] | None:
        """What is sent before a sample begins."""
        before = self._before(index, samples)
        return {"text": before, "logprobs": None} if before else None

    def piece(self, text: str) -> dict[str, Any]:
        """Some of a sample; of its end, nothing."""
        return {"text": text, "logprobs": None}

    def _before(self, index: int, samples: int) -> str:
        return self._echo[index // samples] if self._echo else ""

    def _logprobs(self, row: Row) -> dict[str, Any]:
        drawn = row.ids[row.given :]
        stream, places, place = self._tokenizer.stream(), [], 0
        for id in drawn:
            places.append(place)
            place += len(stream.add(id))
        top = [{named(self._tokenizer, id): chance for id, chance in several} for several in row.likely]
        return {
            "tokens": [named(self._tokenizer, id) for id in drawn],
            "token_logprobs": row.logprobs,
            "top_logprobs": top or None,
            "text_offset": places,
        }


class _Chat:
    """The form of chat."""

    prefix, kind, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def whole(self, row: Row, index: int, samples: int) -> dict[str, Any]:
        """A finished sample."""
        message = {"role": "assistant", "content": row.words.text, "refusal": None}
        return {"message": message, "logprobs": None}

    def begun(self, index: int, samples: int) -> dict[str, Any] | None:
        """What is sent before a sample begins."""
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def piece(self, text: str) -> dict[str, Any]:
        """Some of a sample; of its end, nothing."""
        return {"delta": {"content": text} if text else {}, "logprobs": None}


_Shape = _Completion | _Chat


@dataclass
class _Writing:
    """A request for text while it is answered."""

    model: Served
    asked: TextRequest
    prompts: Sequence[Asked]
    length: int
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def samples(self) -> int:
        """Of each prompt."""
        return self.asked.n or 1

    async def answer(self, shape: _Shape, request: Request, noted: int | None) -> Response:
        """The whole text, or the stream of it."""
        self._check()
        mail = Mail(self.model.settings.limits.unread)
        asked, streams = self.asked, bool(self.asked.stream)
        settings = self.model.generate_settings(
            {
                "temperature": asked.temperature,
                "top_p": None if asked.top_p is None else max(asked.top_p, 1e-9),  # 0: the likeliest alone
                "top_k": asked.top_k,
                "min_p": asked.min_p,
                "stop": asked.stops,
                "length": self.length,
                "samples": self.samples,
            }
        )
        seed = secrets.randbits(48) if asked.seed is None else asked.seed
        ticket = await run_in_threadpool(
            self.model.ticket, self.prompts, settings, seed, mail, stream=streams, noted=noted or 0
        )
        self.model.worker.submit(ticket)
        if streams:
            return EventStream(self._events(shape, mail), mail)
        return JSONResponse(self._whole(shape, await whole_answer(request, mail)))

    def _check(self) -> None:
        limits = self.model.settings.limits
        if len(self.prompts) * self.samples > limits.inputs:
            message = f"At most {limits.inputs} texts in one request: prompts, times n."
            raise Refused(400, message, param="n", code="too_many_inputs")
        if self.length > limits.tokens:
            message = f"max_tokens: at most {limits.tokens} are made for one text."
            raise Refused(400, message, param="max_tokens", code="too_many_tokens")

    def _whole(self, shape: _Shape, rows: Sequence[Row]) -> dict[str, Any]:
        choices = [
            {"index": i, **shape.whole(row, i, self.samples), "finish_reason": _reason(row)}
            for i, row in enumerate(rows)
        ]
        return {**self._about(shape, shape.kind), "choices": choices, "usage": self._usage(rows)}

    async def _events(self, shape: _Shape, mail: Mail) -> AsyncIterator[bytes]:
        about = self._about(shape, shape.chunk)
        wanted = bool(self.asked.stream_options and self.asked.stream_options.include_usage)
        unused = {"usage": None} if wanted else {}

        def chunk(index: int, said: dict[str, Any], why: str | None = None) -> bytes:
            return event({**about, "choices": [{"index": index, **said, "finish_reason": why}], **unused})

        for index in range(len(self.prompts) * self.samples):
            if (first := shape.begun(index, self.samples)) is not None:
                yield chunk(index, first)
        async for piece in mail.pieces():
            yield chunk(piece.index, shape.piece(piece.text))
        try:
            rows = await mail.wait()
        except Exception as error:
            refused = Refused(400, str(error)) if isinstance(error, TelosError) else failed()
            yield event(refused.body)
            return
        for index, row in enumerate(rows):
            yield chunk(index, shape.piece(""), _reason(row))
        usage = self._usage(rows)
        if wanted:
            yield event({**about, "choices": [], "usage": usage})
        yield DONE

    def _about(self, shape: _Shape, kind: str) -> dict[str, Any]:
        id = shape.prefix + secrets.token_hex(12)
        return {"id": id, "object": kind, "created": self.created, "model": self.model.id}

    def _usage(self, rows: Sequence[Row]) -> dict[str, int]:
        read = sum(given_tokens(row) for row in rows[:: self.samples])
        made = sum(len(row.ids) - row.given for row in rows)
        self.model.meter.tokens(read, made)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


def _reason(row: Row) -> str:
    return "length" if row.finished == "length" else "stop"
