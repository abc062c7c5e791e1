"""JSON Lines: one object a line. A key that a line lacks is null there."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from widemax.data.convert import array_of
from widemax.data.formats import formats
from widemax.data.formats.base import Chunk
from widemax.data.formats.text import TextFormat, parsed, undecodable
from widemax.errors import DataError

_LINES_WITH_ALL_KEYS = 10_000


@formats.register("jsonl")
class JsonLines(TextFormat):
    """JSON Lines (``.jsonl``, ``.ndjson``)."""

    suffixes = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

    def columns(self, path: Path) -> list[str]:
        """The keys of the first 10,000 lines, in order of appearance."""
        lines = (pair for block in self.lines(path) for pair in block)
        names: dict[str, None] = {}
        for row in parsed(islice(lines, _LINES_WITH_ALL_KEYS), parse_object)[0]:
            names.update(dict.fromkeys(row))
        if not names:
            raise DataError(f"{path} holds no JSON object, but every line must be one.")
        return list(names)

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        for block in self.lines(path):
            rows, positions_B, bad = parsed(block, parse_object)
            yield Chunk(
                {name: array_of([row.get(name) for row in rows]) for name in columns}, positions_B, bad
            )


def parse_object(line: bytes) -> dict[str, Any]:
    """The object on a line.

    Raises:
        ValueError: says what is wrong with the line.
    """
    if reason := undecodable(line):
        raise ValueError(reason)
    try:
        row = json.loads(line.decode())
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"JSON beyond what can be read: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"the line must hold a JSON object, got {type(row).__name__}")
    return row
