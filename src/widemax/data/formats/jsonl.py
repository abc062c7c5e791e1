"""JSON Lines: one object a line. A key that a line lacks is null there."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from widemax.data.convert import array_of
from widemax.data.formats import formats
from widemax.data.formats.base import BLOCK_BYTES, Chunk, Format
from widemax.data.formats.text import numbered_lines
from widemax.errors import DataError

_LINES_WITH_ALL_KEYS = 10_000


@formats.register("jsonl")
class JsonLines(Format):
    """JSON Lines (``.jsonl``, ``.ndjson``)."""

    suffixes = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
    unit = "line"

    def __init__(self, *, block_bytes: int = BLOCK_BYTES) -> None:
        self.block_bytes = block_bytes

    def columns(self, path: Path) -> list[str]:
        """The keys of the first 10,000 lines, in order of appearance."""
        lines = (pair for block in numbered_lines(path, block_bytes=self.block_bytes) for pair in block)
        names: dict[str, None] = {}
        for _, line in islice(lines, _LINES_WITH_ALL_KEYS):
            row, _ = parse_object(line)
            names.update(dict.fromkeys(row))
        if not names:
            raise DataError(f"{path} holds no JSON object, but every line must be one.")
        return list(names)

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        for block in numbered_lines(path, block_bytes=self.block_bytes):
            rows: list[dict[str, Any]] = []
            positions: list[int] = []
            bad: list[tuple[int, str]] = []
            for number, line in block:
                row, reason = parse_object(line)
                if reason:
                    bad.append((number, reason))
                else:
                    rows.append(row)
                    positions.append(number)
            yield Chunk(
                {name: array_of([row.get(name) for row in rows]) for name in columns},
                np.array(positions, np.int64),
                tuple(bad),
            )


def parse_object(line: bytes) -> tuple[dict[str, Any], str]:
    """The object on a line and "", or {} and what is wrong with the line."""
    try:
        row = json.loads(line.decode())
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except UnicodeDecodeError as error:
        return {}, f"byte 0x{line[error.start]:02x} after {error.start} bytes is not UTF-8"
    except UnicodeEncodeError:
        return {}, "it holds half of a surrogate pair, which is no character"
    except json.JSONDecodeError as error:
        return {}, f"broken JSON: {error.msg} at column {error.colno}"
    except (RecursionError, ValueError) as error:
        return {}, f"JSON beyond what can be read: {error}"
    if not isinstance(row, dict):
        return {}, f"the line must hold a JSON object, got {type(row).__name__}"
    return row, ""
