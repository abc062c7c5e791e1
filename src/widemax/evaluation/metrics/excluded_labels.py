"""The number of labels that are never predicted, since they stand in their own row's history."""

from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import SeveralLabelRows
from widemax.task import Task


@metrics.register("excluded_labels")
class ExcludedLabels(Metric):
    """How many labels stand in their own row's history, and are misses unless ``data.repeat``."""

    tasks = frozenset({Task.NEXT})
    larger_is_better = False

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        self._num_excluded = 0

    def update(self, rows: SeveralLabelRows) -> None:
        self._num_excluded += int(((rows.ranks_P == 0) & (rows.label_ids_P >= 0)).sum())

    def compute(self) -> float:
        return self._num_excluded
