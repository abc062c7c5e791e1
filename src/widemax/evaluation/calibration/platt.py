"""A yes/no score turned into the probability of yes. Shapes: N rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from widemax.errors import ShapeError, UsageError
from widemax.evaluation.rows import FloatArray
from widemax.options import checked

MAX_ITERATIONS = 100


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
        [0.4, 0.45, 0.55, 0.6]
    """

    slope: float
    offset: float

    @classmethod
    @checked
    def fit(cls, scores: FloatArray, right: NDArray[np.bool_]) -> "PlattScaling":
        """The two numbers that minimize the cross-entropy to Platt's smoothed targets.

        With n₊ rows of yes and n₋ of no the targets are (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2), so that the optimum
        stays finite even when the scores separate the two.

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
        num_yes = int(right.sum())
        num_no = right.size - num_yes
        targets_N = np.where(right, (num_yes + 1) / (num_yes + 2), 1 / (num_no + 2))
        inputs_N2 = np.column_stack([scores.astype(np.float64), np.ones(scores.size)])

        def loss(params: FloatArray) -> float:
            logits_N = inputs_N2 @ params
            return float((np.logaddexp(0, logits_N) - targets_N * logits_N).mean())

        params = np.array([0.0, np.log((num_yes + 1) / (num_no + 1))])
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
