"""JSON Lines: one object a line. A key that a line lacks is null there."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from widemax.data.convert import array_of
from widemax.data.formats import formats
from widemax.data.formats.base import Chunk
from widemax.data.formats.text import Blocks, LineFormat, parsed, undecodable
from widemax.errors import DataError, reason_of

_LINES_WITH_ALL_KEYS = 10_000

Objects = tuple[list[dict[str, Any]], np.ndarray, tuple[tuple[int, str], ...]]
"""Rows, their positions [B], and the bad ones."""


@formats.register("jsonl")
class JsonLines(LineFormat):
    """JSON Lines (``.jsonl``, ``.ndjson``)."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

    def columns(self, path: Path) -> list[str]:
        """The keys of the first 10,000 lines, in order of appearance."""
        first_bad: list[tuple[int, str]] = []

        def good() -> Iterator[dict[str, Any]]:
            for block, _, bad in self.objects(path):
                first_bad.extend(bad[:1])
                yield from block

        names: dict[str, None] = {}
        for row in islice(good(), _LINES_WITH_ALL_KEYS):
            names.update(dict.fromkeys(row))
        if not names:
            bad = "".join(f" {self.place(path, at)}: {reason}." for at, reason in first_bad[:1])
            raise DataError(
                f"{path} holds no JSON object with a key, but must have one a line, or an array of them.{bad}"
            )
        return list(names)

    def chunks(self, path: Path | Blocks, columns: Sequence[str]) -> Iterator[Chunk]:
        for rows, positions_B, bad in self.objects(path):
            yield Chunk(
                {name: array_of([row.get(name) for row in rows]) for name in columns}, positions_B, bad
            )

    def objects(self, path: Path | Blocks) -> Iterator[Objects]:
        """Blocks of rows, with the bad ones."""
        return (parsed(block, parse_object) for block in self.lines(path))


def parse_object(line: bytes) -> dict[str, Any]:
    """The object on a line.

    Raises:
        ValueError: says what is wrong with the line.
    """
    if reason := undecodable(line):
        raise ValueError(reason)
    try:
        row = json.loads(line.decode())
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"JSON beyond what can be read: {reason_of(error)}") from None
    return only_object(row, escapes=b"\\u" in line)


def only_object(row: Any, *, escapes: bool = True) -> dict[str, Any]:
    """What JSON gave, if it is an object; its texts may hold halves of characters if it ``escapes`` any.

    Raises:
        ValueError: it is something else, or holds half of a character.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a row must be a JSON object, got {type(row).__name__}")
    try:
        if escapes:
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    return row
