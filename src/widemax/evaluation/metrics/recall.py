"""Recall at k."""

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, SeveralLabelRows
from widemax.task import Task

for _name, _task, _k in (("r@10", Task.SEVERAL, 10), ("recall@20", Task.NEXT, 20)):

    @metrics.register(_name)
    class _RecallAtK(MeanMetric):
        __doc__ = f"""Mean share of a row's labels, unseen ones included, among its first {_k} predictions.

        Rows without labels are left out.
        """
        tasks = frozenset({_task})
        k = _k

        def values(self, rows: SeveralLabelRows) -> FloatArray:
            labeled_B = rows.num_labels_B > 0
            hits_B: FloatArray = rows.sum_by_row(rows.hits_P(self.k))
            return hits_B[labeled_B] / rows.num_labels_B[labeled_B]
