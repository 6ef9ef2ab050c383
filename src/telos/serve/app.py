"""The application: which address answers what, and errors in OpenAI's form."""

import base64
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from telos.errors import TelosError
from telos.serve import tasks
from telos.serve.answers import whole_answer
from telos.serve.gate import Gate
from telos.serve.mail import Mail
from telos.serve.metrics import Meters
from telos.serve.models import Served
from telos.serve.refusals import Refused, described, failed, not_found, refusal
from telos.serve.runs import Runs
from telos.serve.schemas import (
    ChatRequest,
    ClassifyRequest,
    CompletionRequest,
    EmbeddingRequest,
    ScoreRequest,
    TranslateRequest,
)
from telos.serve.settings import ServeSettings
from telos.serve.worker import Job
from telos.serve.writing import chat, complete

__all__ = ["gated"]

PAGE = Path(__file__).parent / "page"


def gated(
    models: Mapping[str, Served], runs: Runs, settings: ServeSettings, key: str, meters: Meters
) -> Gate:
    """The application behind its gate.

    Args:
        models: by id. Their threads live as long as the application.
        key: what clients must show; empty for none.
    """

    @asynccontextmanager
    async def at_work(app: FastAPI) -> AsyncIterator[None]:
        for model in models.values():
            model.worker.start()
        yield
        for model in models.values():
            await run_in_threadpool(model.worker.close)

    app = FastAPI(lifespan=at_work, docs_url=None, redoc_url=None, openapi_url=None)
    gate = Gate(app, settings, key, meters)
    desk = _Desk(models, settings)
    _refusing(app)
    _about(app, gate, desk, meters)
    _writing(app, desk)
    _judging(app, desk)
    _watching(app, runs)
    _page(app)
    return gate


class _Desk:
    """Where requests find their model, and models their work."""

    def __init__(self, models: Mapping[str, Served], settings: ServeSettings) -> None:
        self.models, self.settings = models, settings

    def model(self, id: str, capability: str = "") -> Served:
        """The model of that id.

        Raises:
            Refused: there is none, or it cannot do this.
        """
        if id not in self.models:
            raise not_found(id, list(self.models))
        if capability:
            self.models[id].must(capability)
        return self.models[id]

    def texts(self, model: Served, given: str | list[str], times: int = 1) -> list[str]:
        """What was given, as a list, cleaned as what the model was trained on.

        Raises:
            Refused: there is nothing, or too much.
        """
        texts = [given] if isinstance(given, str) else given
        if not texts:
            raise Refused(400, "input: give one text at least.", param="input")
        if len(texts) * times > self.settings.limits.inputs:
            message = f"input: at most {self.settings.limits.inputs} texts in one request."
            raise Refused(400, message, param="input", code="too_many_inputs")
        return [model.clean(text) for text in texts]

    async def done(self, model: Served, steps: Iterator[Any], request: Request) -> Any:
        """What a job of several steps comes to."""
        mail = Mail(1)
        model.worker.submit(Job(lambda: steps, mail))
        return await whole_answer(request, mail)

    async def read(self, model: Served, texts: Sequence[str]) -> int:
        """How many tokens the texts have together.

        Raises:
            Refused: one has too many.
        """
        counted = sum(await run_in_threadpool(model.tokens, texts))
        model.meter.tokens(counted)
        return counted


def _refusing(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if isinstance(error, Refused):
            return refusal(error)
        if error.status_code == 400:  # FastAPI's, of a body that no parser takes
            return refusal(Refused(400, "The request is not JSON, or nested too deep.", code="invalid_json"))
        return refusal(Refused(error.status_code, f"{error.detail}.", headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refusal(described(error.errors()))

    @app.exception_handler(TelosError)
    async def unsuitable(request: Request, error: TelosError) -> Response:
        return refusal(Refused(400, str(error)[:1000]))

    @app.exception_handler(Exception)
    async def ours(request: Request, error: Exception) -> Response:
        return refusal(failed())


def _about(app: FastAPI, gate: Gate, desk: _Desk, meters: Meters) -> None:
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "draining" if gate.draining else "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return meters.page()

    @app.get("/v1/models")
    async def listed() -> Response:
        return JSONResponse({"object": "list", "data": [each.listed() for each in desk.models.values()]})

    @app.get("/v1/models/{id}")
    async def one(id: str) -> Response:
        return JSONResponse(desk.model(id).listed())


def _writing(app: FastAPI, desk: _Desk) -> None:
    @app.post("/v1/completions")
    async def completions(asked: CompletionRequest, request: Request) -> Response:
        return await complete(desk.model(asked.model), asked, request)

    @app.post("/v1/chat/completions")
    async def chats(asked: ChatRequest, request: Request) -> Response:
        return await chat(desk.model(asked.model), asked, request)

    @app.post("/v1/translate")
    async def translate(asked: TranslateRequest, request: Request) -> Response:
        model = desk.model(asked.model, "translate")
        texts = desk.texts(model, asked.input, asked.n)
        await desk.read(model, texts)
        found = await desk.done(
            model, model.task_steps(tasks.translated, texts, asked.n, asked.beam), request
        )
        return _list(model, [{"index": i, "translations": each} for i, each in enumerate(found)])


def _judging(app: FastAPI, desk: _Desk) -> None:
    @app.post("/v1/embeddings")
    async def embeddings(asked: EmbeddingRequest, request: Request) -> Response:
        model = desk.model(asked.model, "embed")
        texts = desk.texts(model, asked.input)
        if not all(texts):
            raise Refused(400, "input: a text is empty; there is nothing to embed.", param="input")
        read = await desk.read(model, texts)
        found = await desk.done(model, model.embedding_steps(texts), request)
        data = [
            {"object": "embedding", "index": i, "embedding": _vector(each, asked.encoding_format)}
            for i, each in enumerate(found)
        ]
        return _list(model, data, usage={"prompt_tokens": read, "total_tokens": read})

    @app.post("/v1/score")
    async def score(asked: ScoreRequest, request: Request) -> Response:
        model = desk.model(asked.model, "score")
        texts = desk.texts(model, asked.input)
        await desk.read(model, texts)
        found = await desk.done(model, model.score_steps(texts, asked.top), request)
        return _list(model, [{"index": i, **each} for i, each in enumerate(found)])

    @app.post("/v1/classify")
    async def classify(asked: ClassifyRequest, request: Request) -> Response:
        model = desk.model(asked.model, "classify")
        texts = desk.texts(model, asked.input)
        await desk.read(model, texts)
        found = await desk.done(model, model.task_steps(tasks.classified, texts, asked.threshold), request)
        return _list(model, [{"index": i, **each} for i, each in enumerate(found)])


def _watching(app: FastAPI, runs: Runs) -> None:
    @app.get("/v1/runs")
    async def listed() -> Response:
        return JSONResponse({"data": await run_in_threadpool(runs.listed)})

    @app.get("/v1/runs/{id}/metrics")
    async def metrics(id: str, after: int = Query(0, ge=0, lt=1 << 40)) -> Response:
        return JSONResponse(await run_in_threadpool(runs.metrics, id, after))


def _page(app: FastAPI) -> None:
    if (PAGE / "index.html").is_file():

        @app.get("/")
        async def index() -> Response:
            return FileResponse(PAGE / "index.html")

        app.mount("/page", StaticFiles(directory=PAGE))


def _list(model: Served, data: list[dict[str, Any]], **more: Any) -> Response:
    return JSONResponse({"object": "list", "model": model.id, "data": data, **more})


def _vector(found: Any, encoding: str) -> Any:
    """Numbers, or the bytes of their float32, little-endian, in base64."""
    vector = np.asarray(found, "<f4")
    return vector.tolist() if encoding == "float" else base64.b64encode(vector.tobytes()).decode()
