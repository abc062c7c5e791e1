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


for _k in (1, 3, 5):

    @metrics.register(f"p@{_k}")
    class _PrecisionAtK(PrecisionAtK):
        __doc__ = f"Share of the first {_k} predictions that are right."
        k = _k
