"""svmlight/libsvm text: ``label index:value index:value … # comment``; several labels as ``1,5,9``.

The columns are "label" and "features" (sparse). Indices stay as they are written. A first line of three
counts (rows, features, labels), as the Extreme Classification Repository writes it, is passed over; so is
``qid:N`` before the pairs, which groups rows for ranking. A row without labels has an empty list of them
where rows have several.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from widemax.data.convert import array_of
from widemax.data.formats import formats
from widemax.data.formats.base import Chunk
from widemax.data.formats.text import Blocks, LineFormat, parsed

_PAIR = re.compile(rb"\d+:[^\s:]+")
_PAIRS = re.compile(rb"(?:\d+:[^\s:]+(?:\s+|$))*")
_INTEGER = re.compile(rb"[+-]?\d+")
_QUERY = re.compile(rb"^\s*qid:\d+(?:\s+|$)")
_MOST_DIGITS = 100  # Python refuses to read integers of some thousands
_COUNTS = re.compile(rb"\s*\d+\s+\d+\s+\d+\s*")


@formats.register("svmlight")
class SvmLight(LineFormat):
    """svmlight/libsvm (``.svm``, ``.libsvm``)."""

    suffixes = (".svm", ".libsvm", ".svmlight", ".svm.gz", ".libsvm.gz", ".svmlight.gz")
    unlabeled_is_empty = True

    def columns(self, path: Path) -> list[str]:
        return ["label", "features"]

    def chunks(self, path: Path | Blocks, columns: Sequence[str]) -> Iterator[Chunk]:
        for block in self.lines(path):
            lines = ((number, line.partition(b"#")[0]) for number, line in block)
            kept = ((at, row) for at, row in lines if row.strip() and (at > 1 or not _COUNTS.fullmatch(row)))
            rows, positions_B, bad = parsed(kept, _parse)
            arrays = {
                "label": array_of([label for label, *_ in rows]),
                "features": _features([(indices, values) for _, indices, values in rows]),
            }
            yield Chunk({name: arrays[name] for name in columns}, positions_B, bad)


def _parse(line: bytes) -> tuple[Any, list[int], list[float]]:
    """The label (None where missing), the indices and the values of a line."""
    head, _, tail = re.sub(rb"\s+", b" ", line.strip()).partition(b" ")
    if b":" in head:
        head, tail = b"", line.strip()
    tail = _QUERY.sub(b"", tail)
    if not _PAIRS.fullmatch(tail):
        wrong = next(token for token in tail.split() if not _PAIR.fullmatch(token))
        raise ValueError(f"{_show(wrong)} is not a pair index:value")
    tokens = tail.replace(b":", b" ").split()
    indices = [_whole(token, "index") for token in tokens[::2]]
    return (_label(head) if head else None), indices, [_number(token) for token in tokens[1::2]]


def _label(token: bytes) -> Any:
    if b"," in token:
        return [_label(part) for part in token.split(b",") if part]
    return _whole(token, "label") if _INTEGER.fullmatch(token) else _number(token)


def _whole(token: bytes, noun: str) -> int:
    """An integer that stays one, so that integer labels come back as integers."""
    if len(token) > _MOST_DIGITS or abs(value := int(token)) >= 2**63:
        raise ValueError(f"{noun} {_show(token)} must be smaller than 2^63 in size")
    return value


def _number(token: bytes) -> float:
    try:
        return float(b"_" if b"_" in token else token)
    except ValueError:
        raise ValueError(f"{_show(token)} is not a number") from None


def _show(token: bytes) -> str:
    return repr(token.decode(errors="replace"))


def _features(rows: list[tuple[list[int], list[float]]]) -> Any:
    """A list<struct<index, value>> column."""
    offsets = np.cumsum([0, *(len(indices) for indices, _ in rows)])
    structs = pa.StructArray.from_arrays(
        [
            pa.array([index for indices, _ in rows for index in indices], pa.int64()),
            pa.array([value for _, values in rows for value in values], pa.float64()),
        ],
        names=["index", "value"],
    )
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), structs)
