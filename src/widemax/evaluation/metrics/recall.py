"""Recall at k."""

from abc import ABC
from typing import ClassVar

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, SeveralLabelRows
from widemax.task import Task


class RecallAtK(MeanMetric, ABC):
    """Mean share of a row's labels, unseen ones included, among its first k predictions.

    Rows without labels are left out.
    """

    k: ClassVar[int]

    def values(self, rows: SeveralLabelRows) -> FloatArray:
        labeled_B = rows.num_labels_B > 0
        hits_B: FloatArray = rows.sum_by_row(rows.hits_P(self.k))
        return hits_B[labeled_B] / rows.num_labels_B[labeled_B]


@metrics.register("r@10")
class RecallAt10(RecallAtK):
    """Share of a row's labels among its first 10 predictions."""

    tasks = frozenset({Task.SEVERAL})
    k = 10


@metrics.register("recall@20")
class RecallAt20(RecallAtK):
    """Share of a row's next items among its first 20 predictions."""

    tasks = frozenset({Task.NEXT})
    k = 20
