"""What a server says when it does not do what it was asked: JSON in the form of OpenAI's interface.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

A message is about the request alone: it holds no traceback, no path of this machine and nothing of another
request, and of what was sent only names, never texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

__all__ = ["Refused", "described", "failed", "not_found", "refusal", "unable"]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class Refused(HTTPException):
    """Why a request is not answered, and what its sender can do about it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers=dict(headers or {}))
        self.param, self.code = param, code

    @property
    def body(self) -> dict[str, Any]:
        """As it goes out."""
        kind = _TYPES.get(self.status_code, "invalid_request_error")
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}


def refusal(refused: Refused) -> JSONResponse:
    """The answer that says so."""
    return JSONResponse(refused.body, refused.status_code, refused.headers)


def failed() -> Refused:
    """For mistakes of ours: what happened stands in the server's own log."""
    return Refused(500, "The server failed. What happened is in its log.", code="internal_error")


def not_found(model: str, there: Sequence[str]) -> Refused:
    """There is no such model."""
    shown = model[:80].encode("ascii", "backslashreplace").decode()
    message = f"The model '{shown}' is not served here. There are: {', '.join(there)}."
    return Refused(404, message, param="model", code="model_not_found")


def unable(model: str, wanted: str, can: Sequence[str]) -> Refused:
    """The model cannot do it; what it can is named."""
    message = f"The model '{model}' cannot {wanted}. It can: {', '.join(can) or 'nothing that is served'}."
    return Refused(400, message, param="model", code="unsupported")


def described(errors: Sequence[Any]) -> Refused:
    """The first of the errors that pydantic found in a request: which field, and what was expected."""
    error = errors[0]
    place = [str(part) for part in error["loc"] if part != "body"]
    if error["type"] == "json_invalid":
        return Refused(400, "The request is not JSON. Send a JSON object.", code="invalid_json")
    name = _name(place)
    if not name and error["type"] == "value_error":  # of several fields together
        return Refused(400, f"{said(error)}.")
    if not name:
        return Refused(400, "Send a JSON object, with content-type: application/json.", code="invalid_json")
    if error["type"] == "extra_forbidden":
        return Refused(400, f"Unrecognized request argument supplied: {name}", param=name)
    return Refused(400, f"{name}: {said(error)}.", param=name)


def said(error: Any) -> str:
    """What pydantic says of an error."""
    return str(error["msg"]).removeprefix("Value error, ").rstrip(".")


def _name(place: Sequence[str]) -> str:
    """Of a field, by its path: never anything that a client chose at length."""
    parts = [
        part for part in place if "[" not in part and part not in ("str", "list", "int", "float", "bool")
    ]
    return ".".join(parts)[:80].encode("ascii", "backslashreplace").decode()
