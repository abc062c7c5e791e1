"""Negative log-likelihood."""

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import FloatArray, OneLabelRows
from widemax.task import Task


@metrics.register("nll")
class NegativeLogLikelihood(MeanMetric):
    """Mean of −log p(label), in nats; rows with an unseen label have none and are left out."""

    tasks = frozenset({Task.ONE})
    larger_is_better = False

    def values(self, rows: OneLabelRows) -> FloatArray:
        return -rows.log_probs_B[rows.labels_B >= 0]
