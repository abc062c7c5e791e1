"""JSON from strangers: bounded, finite, and no deeper than a value of a row can be."""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from starlette.requests import Request

from widemax.errors import UsageError, reason_of, shown
from widemax.serving.replies import BodyTooSlowError

MAX_DEPTH = 32


class Body(BaseModel):
    """A JSON object with known keys, in which true and "5" are no numbers and 5.0 is a whole one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            key: int(value) if isinstance(value, float) and value.is_integer() else value
            for key, value in given.items()
        }


WHOLE = frozenset({"beam", "k", "tokens", "top_k", "seed"})
"""The keys of bodies whose values are whole numbers."""


def whole(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body whose whole numbers are such also where they are written 5.0, as JSON allows."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() and key in WHOLE else value
        for key, value in body.items()
    }


async def read_body(request: Request) -> bytes:
    """All bytes of a request.

    Raises:
        BodyTooSlowError: they did not arrive in time.
    """
    try:
        return await request.body()
    except TimeoutError:
        raise BodyTooSlowError("the body did not arrive in time.") from None


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        UsageError: it is none.
    """
    value = parse_json(await read_body(request))
    if not isinstance(value, dict):
        raise UsageError(f'the body must be a JSON object such as {{"inputs": …}}; got {shown(value)}.')
    return value


def parse_json(body: bytes) -> Any:
    """A value of strict JSON.

    Raises:
        UsageError: it is none, nests too deep, or holds a number that is not finite.

    Example:
        >>> parse_json(b'{"k": 5}')
        {'k': 5}
    """
    try:
        value = json.loads(body.decode(), parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        value = None
        deep = True
    except ValueError as error:
        raise UsageError(f"the body must be JSON: {reason_of(error)}.") from None
    else:
        deep = body.count(b"[") + body.count(b"{") > MAX_DEPTH and depth(value) > MAX_DEPTH
    if deep:
        raise UsageError(f"the body may nest {MAX_DEPTH} lists and objects deep, and nests deeper.")
    if b"\\u" in body:
        _check_characters(value)
    return value


def depth(value: Any) -> int:
    """How many lists and objects lie in one another.

    Example:
        >>> depth([{"a": []}]), depth(7)
        (3, 0)
    """
    level, inside = 0, [value]
    while inside := [each for each in inside if isinstance(each, list | dict)]:
        level += 1
        inside = [item for each in inside for item in (each.values() if isinstance(each, dict) else each)]
    return level


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number[:20]} is no number of JSON that is finite")
    return value


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError("the body holds half of a surrogate pair, which is no character.") from None


async def disconnected(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(0)
