"""What a server counts, in the text format of Prometheus.

    telos_requests_total{endpoint, status}      answers; status 499: the client hung up before
    telos_request_seconds{endpoint}             from the request to the end of its answer
    telos_tokens_total{model, kind}             read (prompt) and made (completion)
    telos_waiting_requests{model}               that have not begun
    telos_batch_rows{model}                     texts that one run of the network was for

Labels are endpoints and models that there are, never what a client wrote: else anybody could fill the memory
with names.
"""

import re
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

__all__ = ["Meters", "ModelMeter"]

_ENDPOINTS = re.compile(
    r"/(|health|metrics|v1/(models|completions|chat/completions|embeddings|score|translate|classify|runs))"
)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Meters:
    """All that is counted, of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("telos_requests", "Answers.", ["endpoint", "status"], registry=self.registry)
        self._seconds = Histogram(
            "telos_request_seconds",
            "From the request to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter("telos_tokens", "Tokens.", ["model", "kind"], registry=self.registry)
        self._waiting = Gauge(
            "telos_waiting_requests", "Requests that have not begun.", ["model"], registry=self.registry
        )
        self._rows = Histogram(
            "telos_batch_rows",
            "Texts that one run of the network was for.",
            ["model"],
            buckets=_ROWS,
            registry=self.registry,
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request is at its end."""
        endpoint = _endpoint(path)
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def of(self, model: str) -> "ModelMeter":
        """What is counted of one model."""
        return ModelMeter(
            self._waiting.labels(model),
            self._rows.labels(model),
            [self._tokens.labels(model, kind) for kind in ("prompt", "completion")],
        )

    def page(self) -> Response:
        """As Prometheus reads it."""
        return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4")


class ModelMeter:
    """What is counted of one model."""

    def __init__(self, waiting: Gauge, rows: Histogram, tokens: Sequence[Counter]) -> None:
        self._waiting, self._rows, self._tokens = waiting, rows, tokens

    def ran(self, rows: int) -> None:
        """The network was run once for so many texts."""
        self._rows.observe(rows)

    def waiting(self, requests: int) -> None:
        """So many requests wait for their turn."""
        self._waiting.set(requests)

    def tokens(self, prompt: int, completion: int = 0) -> None:
        """So many were read, and made."""
        for counter, amount in zip(self._tokens, (prompt, completion), strict=True):
            counter.inc(amount)


def _endpoint(path: str) -> str:
    """An endpoint by its path; `page` for the files of the page, `other` for what is none."""
    if _ENDPOINTS.fullmatch(path):
        return path
    if path.startswith("/v1/runs/") and path.endswith("/metrics"):
        return "/v1/runs/{id}/metrics"
    return "page" if path.startswith("/page/") else "other"
