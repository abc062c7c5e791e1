"""Precision at k."""

from abc import ABC
from typing import ClassVar

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, SeveralLabelRows
from widemax.task import Task


class PrecisionAtK(MeanMetric, ABC):
    """Mean of (1/k) · the number of labels among the first k predictions; every row counts."""

    tasks = frozenset({Task.SEVERAL})
    k: ClassVar[int]

    def values(self, rows: SeveralLabelRows) -> FloatArray:
        return rows.sum_by_row(rows.hits_P(self.k)) / self.k


@metrics.register("p@1")
class PrecisionAt1(PrecisionAtK):
    """Share of rows whose first prediction is right."""

    k = 1


@metrics.register("p@3")
class PrecisionAt3(PrecisionAtK):
    """Share of the first 3 predictions that are right."""

    k = 3


@metrics.register("p@5")
class PrecisionAt5(PrecisionAtK):
    """Share of the first 5 predictions that are right."""

    k = 5
