"""Labels that hold a text, among a million of them while somebody types."""

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data import LabelVocabulary


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
        holds = pc.match_substring(self._lower_case, query.lower())
        ids_N = np.flatnonzero(holds.to_numpy(zero_copy_only=False))
        begins = pc.starts_with(self._lower_case.take(pa.array(ids_N)), query.lower())
        begins_N = begins.to_numpy(zero_copy_only=False)
        return np.concatenate([ids_N[begins_N], ids_N[~begins_N]])

    @cached_property
    def _lower_case(self) -> pa.Array:
        labels = self.vocabulary.labels
        return pc.utf8_lower(labels.cast(pa.large_string()))
