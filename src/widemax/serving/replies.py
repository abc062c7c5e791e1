"""What a server answers: strict JSON, and one sentence with a status for each error."""

import json
from operator import methodcaller
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from widemax.errors import (
    CorruptError,
    DataError,
    ResourceError,
    UnknownNameError,
    UsageError,
    WidemaxError,
    visible,
)
from widemax.serving.batches import GoneError, QueueFullError, TooLateError

RETRY_AFTER_S = 1
METHODS = "GET", "POST", "PUT", "PATCH", "DELETE"


class ForbiddenError(UsageError):
    """An order that may not be given from where it comes."""


class UnauthorizedError(UsageError):
    """An order that wants a token, and has none or another."""


class BodyTooLargeError(UsageError):
    """A body of more bytes than were allowed."""


class BodyTooSlowError(UsageError):
    """A body that did not arrive in time."""


STATUS: dict[type[WidemaxError], int] = {
    UnknownNameError: 404,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    BodyTooLargeError: 413,
    BodyTooSlowError: 408,
    UsageError: 400,
    DataError: 422,
    GoneError: 499,
    QueueFullError: 429,
    TooLateError: 503,
    CorruptError: 503,
    ResourceError: 503,
}
"""The statuses of the library's errors; the first that fits counts."""


class Reply(Response):
    """JSON, as the command line writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of some values; dates and times are ISO 8601 text."""
        return json.dumps(
            content,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            default=methodcaller("isoformat"),
        ).encode()


def refusal(status: int, sentence: str, **headers: str) -> Reply:
    """An answer that says what is wrong."""
    if status in (429, 503):
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Reply({"error": visible(sentence)}, status, headers)


async def refuse(request: Request, error: Exception) -> Response:
    """Answer an error by its sentence."""
    if isinstance(error, ClientDisconnect):
        return refusal(499, "the client has gone.")
    if isinstance(error, MemoryError):
        return refusal(503, "memory ran out; ask for fewer rows.")
    if isinstance(error, WidemaxError):
        status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
        return refusal(status, str(error))
    if isinstance(error, RequestValidationError):
        (first, *_) = error.errors()
        if first["type"] in ("model_attributes_type", "dict_type") and first["loc"] == ("body",):
            return refusal(422, "the body must be a JSON object, with Content-Type: application/json.")
        return refusal(422, f"{first['loc'][-1]}: {first['msg']}.")
    if isinstance(error, HTTPException) and error.status_code == 404:
        return refusal(404, f"there is no {request.url.path}; /docs lists what there is.")
    if isinstance(error, HTTPException) and error.status_code == 405:
        # The error names the methods of the first function at the path alone.
        allowed = ", ".join(
            method
            for method in METHODS
            if any(
                route.matches({**request.scope, "method": method})[0] is Match.FULL
                for route in request.app.routes
            )
        )
        return refusal(405, f"{request.url.path} takes {allowed}; got {request.method}.", Allow=allowed)
    if isinstance(error, HTTPException):
        return refusal(error.status_code, error.detail, **(error.headers or {}))
    raise error
