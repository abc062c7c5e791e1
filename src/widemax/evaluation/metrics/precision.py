"""Precision at k."""

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, SeveralLabelRows
from widemax.task import Task

for _k in (1, 3, 5):

    @metrics.register(f"p@{_k}")
    class _PrecisionAtK(MeanMetric):
        __doc__ = f"Share right of the first {_k} predictions, or of all classes if fewer; every row counts."
        tasks = frozenset({Task.SEVERAL})
        k = _k

        def values(self, rows: SeveralLabelRows) -> FloatArray:
            return rows.sum_by_row(rows.hits_P(self.k)) / min(self.k, self.training.num_classes)
