"""Macro F1."""

import numpy as np

from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import IntArray, OneLabelRows
from widemax.task import Task

FRESH_KEYS = 1 << 16  # are counted together


@metrics.register("macro_f1")
class MacroF1(Metric):
    """Unweighted mean of F1 = 2·TP / (2·TP + FP + FN) over the classes that occur as label or as prediction.

    A row with an unseen label is a false positive of the class predicted for it. Unseen classes add no F1 of
    their own: the model cannot tell them apart, and scoring 0 for each would measure the data, which
    ``unseen_labels`` already does. This is scikit-learn's ``f1_score(average="macro", labels=...)`` with the
    known classes that occur.
    """

    tasks = frozenset({Task.ONE})

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        # How often each class was right, a label and predicted, of those met: three keys a class.
        self._keys, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self._fresh: list[IntArray] = []
        self._num_fresh = 0

    def update(self, rows: OneLabelRows) -> None:
        right = 3 * rows.labels_B[rows.ranks_B == 1]
        label = 3 * rows.labels_B[rows.labels_B >= 0] + 1
        self._fresh.append(np.concatenate([right, label, 3 * rows.predicted_B + 2]))
        self._num_fresh += len(self._fresh[-1])
        if self._num_fresh > FRESH_KEYS + len(self._keys):
            self._count()

    def _count(self) -> None:
        keys = np.concatenate([self._keys, *self._fresh])
        counts = np.append(self._counts, np.ones(self._num_fresh, np.int64))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = _starts(keys)
        self._keys, self._counts = keys[starts], np.add.reduceat(counts[order], starts)
        self._fresh, self._num_fresh = [], 0

    def compute(self) -> float:
        self._count()
        if not len(self._keys):
            return float("nan")
        ids, kinds = np.divmod(self._keys, 3)
        starts = _starts(ids)
        num_right = np.add.reduceat(np.where(kinds == 0, self._counts, 0), starts)
        occurrences = np.add.reduceat(np.where(kinds == 0, 0, self._counts), starts)
        return float((2 * num_right / occurrences).mean())


def _starts(numbers: IntArray) -> IntArray:
    """Where each number begins of those that ascend."""
    return np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
