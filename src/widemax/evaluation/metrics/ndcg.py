"""Normalized discounted cumulative gain at k."""

import numpy as np

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, SeveralLabelRows
from widemax.task import Task

for _task, _k in ((Task.SEVERAL, 5), (Task.NEXT, 10), (Task.NEXT, 20)):

    @metrics.register(f"ndcg@{_k}")
    class _NdcgAtK(MeanMetric):
        __doc__ = f"""Mean of DCG / ideal DCG, with DCG = Σ_{{hits of rank r ≤ {_k}}} 1 / log2(r + 1).

        The ideal puts min({_k}, number of labels, unseen ones included) hits first. Rows without labels are
        left out.

        Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (TOIS 2002), with
        the discount log2(r + 1).
        """
        tasks = frozenset({_task})
        k = _k

        def values(self, rows: SeveralLabelRows) -> FloatArray:
            gain_by_rank = np.zeros(self.k + 1)
            gain_by_rank[1:] = 1 / np.log2(np.arange(2, self.k + 2))
            rank_within_k_P = np.where(rows.hits_P(self.k), rows.ranks_P, 0)
            dcg_B = rows.sum_by_row(gain_by_rank[rank_within_k_P])
            ideal_B = gain_by_rank.cumsum()[np.minimum(rows.num_labels_B, self.k)]
            labeled_B = rows.num_labels_B > 0
            ndcg_B: FloatArray = dcg_B[labeled_B] / ideal_B[labeled_B]
            return ndcg_B
