"""Brier score over all classes."""

import numpy as np

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, OneLabelRows
from widemax.task import Task


@metrics.register("brier")
class Brier(MeanMetric):
    """Mean of Σ_j (p_j − 1{j is the label})² = Σ_j p_j² − 2·p_y + 1 over all classes; 0 is best, 2 worst.

    A row with an unseen label has p_y = 0. nan where probabilities do not sum to 1, as those of yes-or-no
    questions.

    Source: Brier, Verification of forecasts expressed in terms of probability (Monthly Weather Review 1950).
    """

    tasks = frozenset({Task.ONE})
    larger_is_better = False

    def values(self, rows: OneLabelRows) -> FloatArray:
        label_probs_B = np.where(rows.labels_B < 0, 0.0, np.exp(rows.log_probs_B))
        # Probabilities are rounded; a perfect prediction must not score below 0.
        return np.asarray(np.maximum(rows.square_sums_B - 2 * label_probs_B + 1, 0.0), np.float64)
