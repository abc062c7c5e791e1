"""Accuracy and top-k accuracy."""

import numpy as np
from numpy.typing import NDArray

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import OneLabelRows
from widemax.task import Task

for _name, _k in (("accuracy", 1), ("top5", 5), ("top10", 10)):

    @metrics.register(_name)
    class _AccuracyAtK(MeanMetric):
        __doc__ = f"Share of rows whose label is among the {_k} best classes; an unseen label is a miss."
        tasks = frozenset({Task.ONE})
        k = _k

        def values(self, rows: OneLabelRows) -> NDArray[np.bool_]:
            return (rows.ranks_B >= 1) & (rows.ranks_B <= self.k)
