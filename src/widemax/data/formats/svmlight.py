"""svmlight/libsvm text: ``label index:value index:value … # comment``; several labels as ``1,5,9``.

The columns are "label" and "features" (sparse). Indices stay as they are written. A first line of three
counts (rows, features, labels), as the Extreme Classification Repository writes it, is passed over.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from widemax.data.formats import formats
from widemax.data.formats.base import Chunk
from widemax.data.formats.text import TextFormat, parsed

_PAIR = re.compile(rb"\d+:[^\s:]+")
_PAIRS = re.compile(rb"(?:\d+:[^\s:]+(?:\s+|$))*")
_INTEGER = re.compile(rb"[+-]?\d+")
_COUNTS = re.compile(rb"\s*\d+\s+\d+\s+\d+\s*")


@formats.register("svmlight")
class SvmLight(TextFormat):
    """svmlight/libsvm (``.svm``, ``.libsvm``)."""

    suffixes = (".svm", ".libsvm", ".svmlight", ".svm.gz", ".libsvm.gz", ".svmlight.gz")

    def columns(self, path: Path) -> list[str]:
        return ["label", "features"]

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        for block in self.lines(path):
            lines = ((number, line.partition(b"#")[0]) for number, line in block)
            kept = ((at, row) for at, row in lines if row.strip() and (at > 1 or not _COUNTS.fullmatch(row)))
            rows, positions_B, bad = parsed(kept, _parse)
            arrays = {
                "label": _labels([label for label, _ in rows]),
                "features": _features([pairs_P2 for _, pairs_P2 in rows]),
            }
            yield Chunk({name: arrays[name] for name in columns}, positions_B, bad)


def _parse(line: bytes) -> tuple[Any, np.ndarray]:
    """The label (None where missing) and the (index, value) pairs [P, 2] of a line."""
    head, _, tail = re.sub(rb"\s+", b" ", line.strip()).partition(b" ")
    if b":" in head:
        head, tail = b"", line.strip()
    if not _PAIRS.fullmatch(tail):
        wrong = next(token for token in tail.split() if not _PAIR.fullmatch(token))
        raise ValueError(f"{_show(wrong)} is not a pair index:value")
    numbers = [_number(token) for token in tail.replace(b":", b" ").split()]
    pairs_P2 = np.array(numbers, np.float64).reshape(-1, 2)
    return (_label(head) if head else None), pairs_P2


def _label(token: bytes) -> Any:
    if b"," in token:
        return [_number(part) for part in token.split(b",") if part]
    return _number(token)


def _number(token: bytes) -> float:
    """An int where the token is one, so that integer labels come back as integers."""
    if _INTEGER.fullmatch(token):
        return int(token)
    try:
        return float(token)
    except ValueError:
        raise ValueError(f"{_show(token)} is not a number") from None


def _show(token: bytes) -> str:
    return repr(token.decode(errors="replace"))


def _labels(labels: list[Any]) -> Any:
    if any(isinstance(label, list) for label in labels):
        labels = [label if label is None or isinstance(label, list) else [label] for label in labels]
    return pa.array(labels)


def _features(pairs: list[np.ndarray]) -> Any:
    """A list<struct<index, value>> column out of one [P, 2] array a row."""
    offsets = np.cumsum([0, *map(len, pairs)])
    flat_P2 = np.concatenate(pairs) if pairs else np.empty((0, 2))
    structs = pa.StructArray.from_arrays(
        [pa.array(flat_P2[:, 0].astype(np.int64)), pa.array(flat_P2[:, 1])], names=["index", "value"]
    )
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), structs)
