"""Mean reciprocal rank of the best-ranked next item."""

import numpy as np

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.metrics.mean_reciprocal_rank import reciprocal
from widemax.evaluation.rows import FloatArray, SeveralLabelRows
from widemax.task import Task


@metrics.register("mrr")
class BestMeanReciprocalRank(MeanMetric):
    """Mean of 1 / rank of each row's best-ranked label; rows without labels are left out."""

    tasks = frozenset({Task.NEXT})

    def values(self, rows: SeveralLabelRows) -> FloatArray:
        best_B = np.zeros(len(rows))
        np.maximum.at(best_B, rows.row_of_label_P, reciprocal(rows.ranks_P))
        return best_B[rows.num_labels_B > 0]
