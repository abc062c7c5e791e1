"""Labels that hold a text, among a million of them while somebody types."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data import LabelVocabulary
from widemax.serving.once import once

BLOCK_BYTES = 1 << 18
"""What is compared at once lies in the processor's cache."""
NO_BYTE = 0xFF
"""Stands in no UTF-8."""


class LabelSearch:
    """Finds labels by a part of them, in any case.

    Labels of like length are kept side by side, first bytes beside first bytes, so that a part is looked for
    in thousands of them by one comparison of arrays, which takes the same time whether few hold it or all.

    Example:
        >>> search = LabelSearch(LabelVocabulary.build([pa.array(["Green tea", "tea", "ink", "tea"])]))
        >>> [hit["label"] for hit in search.page("TEA", offset=0, limit=9)["labels"]]
        ['tea', 'Green tea']
    """

    def __init__(self, vocabulary: LabelVocabulary) -> None:
        self.vocabulary = vocabulary

    def page(self, query: str, *, offset: int, limit: int) -> dict[str, Any]:
        """Some of the labels that hold the query: those that begin with it first, then by frequency."""
        ids_N = self._found(query)
        part = ids_N[offset : offset + limit]
        labels, counts = self.vocabulary.decode(part), self.vocabulary.counts[part].tolist()
        return {
            "total": len(ids_N),
            "labels": [
                {"class_id": class_id, "label": label, "count": count}
                for class_id, label, count in zip(part.tolist(), labels, counts, strict=True)
            ],
        }

    def _found(self, query: str) -> np.ndarray:
        if not query:
            return np.arange(len(self.vocabulary))
        wanted = pc.utf8_lower(pa.scalar(query)).as_py().encode()
        # 2 where a label begins with it, 1 where it stands elsewhere.
        places_C = np.zeros(len(self.vocabulary), np.int8)
        for ids_N, bytes_WN in self._blocks():
            num_starts = max(len(bytes_WN) - len(wanted) + 1, 0)
            same = np.ones((num_starts, len(ids_N)), bool)
            for at, byte in enumerate(wanted):
                same &= bytes_WN[at : at + num_starts] == byte
            places_C[ids_N] = same.any(axis=0).view(np.int8) + same[:1].any(axis=0)
        return np.concatenate([np.flatnonzero(places_C == 2), np.flatnonzero(places_C == 1)])

    @once
    def _blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(self._cut())

    def _cut(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Class ids [N] with the bytes [W, N] of their labels in small letters, the longest first."""
        labels = pc.utf8_lower(self.vocabulary.labels.cast(pa.large_string()))
        lengths_C = pc.binary_length(labels).to_numpy()
        order_C = np.argsort(-lengths_C, kind="stable")
        first = 0
        while first < len(order_C):
            width = int(lengths_C[order_C[first]])
            ids_N = order_C[first : first + max(BLOCK_BYTES // max(width, 1), 1)]
            bytes_NW = np.full((len(ids_N), width), NO_BYTE, np.uint8)
            text = "".join(labels.take(pa.array(ids_N)).to_pylist()).encode()
            bytes_NW[np.arange(width) < lengths_C[ids_N, None]] = np.frombuffer(text, np.uint8)
            yield ids_N, np.ascontiguousarray(bytes_NW.T)
            first += len(ids_N)
