"""The number of labels that training never saw."""

from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import OneLabelRows, SeveralLabelRows
from widemax.task import Task


@metrics.register("unseen_labels")
class UnseenLabels(Metric):
    """How many labels training never saw: rows where each has one label, else occurrences."""

    tasks = frozenset(Task)
    larger_is_better = False

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        self._num_unseen = 0

    def update(self, rows: OneLabelRows | SeveralLabelRows) -> None:
        self._num_unseen += rows.num_unseen

    def compute(self) -> float:
        return self._num_unseen
