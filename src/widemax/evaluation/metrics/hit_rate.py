"""Hit rate at k."""

import numpy as np
from numpy.typing import NDArray

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import SeveralLabelRows
from widemax.task import Task


@metrics.register("hr@10")
class HitRateAt10(MeanMetric):
    """Share of rows with any label among the first 10 predictions; rows without labels are left out."""

    tasks = frozenset({Task.NEXT})

    def values(self, rows: SeveralLabelRows) -> NDArray[np.bool_]:
        hits_B = rows.sum_by_row(rows.hits_P(10))
        return hits_B[rows.num_labels_B > 0] > 0
