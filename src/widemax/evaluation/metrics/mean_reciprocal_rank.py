"""Mean reciprocal rank of the one right class."""

import numpy as np

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, IntArray, OneLabelRows
from widemax.task import Task


def reciprocal(ranks: IntArray) -> FloatArray:
    """1 / rank, and 0 for rank 0, which marks an unseen label."""
    return np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)


@metrics.register("mean_reciprocal_rank")
class MeanReciprocalRank(MeanMetric):
    """Mean of 1 / rank of the label among all classes; 0 for an unseen label."""

    tasks = frozenset({Task.ONE})

    def values(self, rows: OneLabelRows) -> FloatArray:
        return reciprocal(rows.ranks_B)
