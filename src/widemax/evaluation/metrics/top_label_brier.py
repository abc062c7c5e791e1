"""Brier score of the best class."""

import numpy as np

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, OneLabelRows
from widemax.task import Task


@metrics.register("top_label_brier")
class TopLabelBrier(MeanMetric):
    """Mean of (p̂ − 1{best class is the label})², p̂ the probability of the best class; 0 is best, 1 worst.

    It is the Brier score of the statement "the best class is right". A row with an unseen label counts
    as wrong: its confidence was misplaced.

    Source: Brier, Verification of forecasts expressed in terms of probability (Monthly Weather Review 1950);
        Gupta and Ramdas, Top-label calibration (ICLR 2022).
    """

    tasks = frozenset({Task.ONE})
    larger_is_better = False

    def values(self, rows: OneLabelRows) -> FloatArray:
        return np.asarray((rows.confidence_B - (rows.ranks_B == 1)) ** 2, np.float64)
