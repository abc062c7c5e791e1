"""The most confused pairs, in bounded memory."""

from collections import Counter

import numpy as np

from widemax.evaluation.rows import IntArray


class ConfusionCounter:
    """Counts (label, predicted) pairs of wrong rows; exact until there are more than ``max_pairs`` of them.

    Beyond that the rarer half is forgotten, so that counts become lower bounds (``is_pruned``).

    Args:
        num_classes: C; pairs are kept as one integer, label · C + predicted.
        max_pairs: pairs kept at most, about 100 bytes each.

    Example:
        >>> confusions = ConfusionCounter(10)
        >>> confusions.update(np.array([3, 3, 1]), np.array([5, 5, 2]))
        >>> confusions.most_common(1)
        [(3, 5, 2)]
    """

    def __init__(self, num_classes: int, *, max_pairs: int = 1_000_000) -> None:
        self.num_classes = num_classes
        self.max_pairs = max_pairs
        self.is_pruned = False
        self._counts: Counter[int] = Counter()

    def update(self, labels_B: IntArray, predicted_B: IntArray) -> None:
        """Count the pairs of rows that were predicted wrong."""
        pairs, counts = np.unique(labels_B * self.num_classes + predicted_B, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._counts[pair] += count
        if len(self._counts) > self.max_pairs:
            self._counts = Counter(dict(self._sorted()[: self.max_pairs // 2]))
            self.is_pruned = True

    def most_common(self, num_pairs: int) -> list[tuple[int, int, int]]:
        """(label, predicted, count), most frequent first, ties by class ids."""
        best = self._sorted()[:num_pairs]
        return [(*divmod(pair, self.num_classes), count) for pair, count in best]

    def _sorted(self) -> list[tuple[int, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
