"""Labels that hold a text, among a million of them while somebody types."""

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data import LabelVocabulary

PIECE_BYTES = 1 << 20
MOST_PLACES = 20_000
"""A query that stands more often is looked for label by label, which takes the same time however often."""


class LabelSearch:
    """Finds labels by a part of them, in any case.

    Args:
        vocabulary: the labels.

    Example:
        >>> search = LabelSearch(LabelVocabulary.build([pa.array(["Green tea", "tea", "ink", "tea"])]))
        >>> [hit["label"] for hit in search.page("TEA", offset=0, limit=9)["labels"]]
        ['tea', 'Green tea']
    """

    def __init__(self, vocabulary: LabelVocabulary) -> None:
        self.vocabulary = vocabulary

    def page(self, query: str, *, offset: int, limit: int) -> dict[str, Any]:
        """Some of the labels that hold the query: those that begin with it first, frequent ones before rare.

        Args:
            query: a part of a label; all labels hold the empty one.
            offset: how many of them are passed over.
            limit: how many are given.
        """
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
        ids_N = self._rare(query.lower().encode())
        if ids_N is None:
            holds = pc.match_substring(self._lower_case, query.lower())
            ids_N = np.flatnonzero(holds.to_numpy(zero_copy_only=False))
        begins = pc.starts_with(self._lower_case.take(pa.array(ids_N)), query.lower())
        begins_N = begins.to_numpy(zero_copy_only=False)
        return np.concatenate([ids_N[begins_N], ids_N[~begins_N]])

    def _rare(self, query: bytes) -> np.ndarray | None:
        """The labels that hold a query, found in all their bytes at once; None where it stands too often."""
        text, offsets_C1 = self._bytes
        places: list[int] = []
        for start in range(0, len(text), PIECE_BYTES):  # between two of them another thread may go on
            end = start + PIECE_BYTES + len(query) - 1
            at = text.find(query, start, end)
            while at >= 0:
                places.append(at)
                if len(places) > MOST_PLACES:
                    return None
                at = text.find(query, at + 1, end)
        places_P = np.array(places, np.int64)
        ids_P = np.searchsorted(offsets_C1, places_P, side="right") - 1
        return np.unique(ids_P[places_P + len(query) <= offsets_C1[ids_P + 1]])

    @cached_property
    def _bytes(self) -> tuple[bytes, np.ndarray]:
        """The labels in small letters, one after another, and where each begins and the last ends."""
        lengths_C = pc.binary_length(self._lower_case).to_numpy()
        text = "".join(self._lower_case.to_pylist()).encode()
        return text, np.append(0, np.cumsum(lengths_C))

    @cached_property
    def _lower_case(self) -> pa.Array:
        labels = self.vocabulary.labels
        return pc.utf8_lower(labels.cast(pa.large_string()))
