"""How much of the catalogue is recommended to somebody."""

import numpy as np

from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import SeveralLabelRows
from widemax.task import Task

K = 20


@metrics.register("coverage@20")
class Coverage(Metric):
    """The share of all classes that stand among the first 20 predictions of some row."""

    tasks = frozenset({Task.NEXT})
    judges = False

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        self._is_covered_C = np.zeros(training.num_classes, bool)
        self._has_rows = False

    def update(self, rows: SeveralLabelRows) -> None:
        self._is_covered_C[rows.topk_ids_BK[:, :K]] = True
        self._has_rows |= len(rows) > 0

    def compute(self) -> float:
        return float(self._is_covered_C.mean()) if self._has_rows else float("nan")
