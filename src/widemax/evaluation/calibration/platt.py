"""A yes/no score turned into the probability of yes. Shapes: N rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from widemax.errors import ShapeError, UsageError
from widemax.evaluation.rows import FloatArray
from widemax.options import checked

MAX_ITERATIONS = 100
PRIOR_ROWS = 40
"""How many rows agree with the scores as they are, beside those given."""


@checked
@dataclass(frozen=True)
class PlattScaling:
    """p(yes) = sigmoid(slope · score + offset).

    For a sigmoid head the score is a logit. For a softmax it is ``KnownLogits.top_log_odds_B`` and yes means
    that the best class is the label; two numbers serve all classes, and nothing is said of the other classes.
    Nothing is approximated: both scores are exact at any number of classes.

    Args:
        slope: 1 leaves log-odds as they are; below 1 they were too sure.
        offset: 0 leaves log-odds as they are.

    Source: Platt, Probabilistic Outputs for Support Vector Machines (1999).

    Example:
        >>> scores = np.array([-2.0, -1.0, 1.0, 2.0])
        >>> PlattScaling.fit(scores, np.array([False, True, False, True])).apply(scores).round(2).tolist()
        [0.13, 0.28, 0.72, 0.87]
    """

    slope: float
    offset: float

    @classmethod
    @checked
    def fit(cls, scores: FloatArray, right: NDArray[np.bool_]) -> "PlattScaling":
        """The two numbers that minimize the cross-entropy to smoothed targets.

        With N rows the target of one is (N · y + 40 · sigmoid(score)) / (N + 40), where y is 1 for yes and 0
        for no: 40 more rows agree with the scores as they are. Few rows so change little, and the optimum
        stays finite even when the scores separate yes from no, for which Platt had the prior of one row each.

        Args:
            scores: finite scores of held-out rows, [N].
            right: whether each is a yes, [N].

        Raises:
            ShapeError: not one answer a score.
            UsageError: no rows, or a score that is not finite.

        Source: Lin, Lin and Weng, A Note on Platt's Probabilistic Outputs (Machine Learning 2007):
            Newton's method with step halving.
        """
        if scores.ndim != 1 or scores.shape != right.shape:
            raise ShapeError(f"right must be of shape {scores.shape}, one answer a score; got {right.shape}.")
        if scores.size == 0 or not np.isfinite(scores).all():
            raise UsageError(f"scores must hold at least one number, all finite; got {scores.size} scores.")
        inputs_N2 = np.column_stack([scores.astype(np.float64), np.ones(scores.size)])
        targets_N = scores.size * right + PRIOR_ROWS * sigmoid(inputs_N2[:, 0])
        targets_N /= scores.size + PRIOR_ROWS

        def loss(params: FloatArray) -> float:
            logits_N = inputs_N2 @ params
            return float((np.logaddexp(0, logits_N) - targets_N * logits_N).mean())

        params = np.zeros(2)
        for _ in range(MAX_ITERATIONS):
            probs_N = sigmoid(inputs_N2 @ params)
            gradient = inputs_N2.T @ (probs_N - targets_N) / scores.size
            hessian = (inputs_N2.T * (probs_N * (1 - probs_N))) @ inputs_N2 / scores.size
            # Least squares, as scores that are all equal leave the Hessian singular.
            step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
            size, current = 1.0, loss(params)
            while size > 1e-10 and loss(params - size * step) > current - 1e-4 * size * (gradient @ step):
                size /= 2
            if size <= 1e-10 or np.abs(step).max() < 1e-12:
                break
            params = params - size * step
        return cls(float(params[0]), float(params[1]))

    @checked
    def apply(self, scores: FloatArray) -> FloatArray:
        """The probability of yes for each score, [N]."""
        return sigmoid(self.slope * scores.astype(np.float64) + self.offset)


def sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + exp(−logits)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)), np.float64)
