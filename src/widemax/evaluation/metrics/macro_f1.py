"""Macro F1."""

import numpy as np

from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import OneLabelRows
from widemax.task import Task


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
        self._num_right_C = np.zeros(training.num_classes, np.int64)
        self._num_labels_C = np.zeros(training.num_classes, np.int64)
        self._num_predicted_C = np.zeros(training.num_classes, np.int64)

    def update(self, rows: OneLabelRows) -> None:
        np.add.at(self._num_right_C, rows.labels_B[rows.ranks_B == 1], 1)
        np.add.at(self._num_labels_C, rows.labels_B[rows.labels_B >= 0], 1)
        np.add.at(self._num_predicted_C, rows.predicted_B, 1)

    def compute(self) -> float:
        occurrences_C = self._num_labels_C + self._num_predicted_C
        occurs_C = occurrences_C > 0
        if not occurs_C.any():
            return float("nan")
        return float((2 * self._num_right_C[occurs_C] / occurrences_C[occurs_C]).mean())
