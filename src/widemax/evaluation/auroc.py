"""Area under the receiver operating characteristic."""

import numpy as np

from widemax.errors import UsageError
from widemax.evaluation.rows import FloatArray
from widemax.options import checked


@checked
def auroc(positive_scores: FloatArray, negative_scores: FloatArray) -> float:
    """The probability that a random positive scores above a random negative, a tie counting half; exact.

    AUROC = (#{p > n} + ½·#{p = n}) / (#p · #n). For out-of-scope detection the positives are the rows that
    belong to a known class, scored by their confidence.

    Args:
        positive_scores: scores of the rows that should score high, any shape [P].
        negative_scores: scores of the rows that should score low, [N].

    Returns:
        A number in [0, 1]; 0.5 is chance.

    Raises:
        UsageError: a side is empty or holds a nan.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve (Radiology 1982).

    Example:
        >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
        0.875
    """
    for name, scores in (("positive_scores", positive_scores), ("negative_scores", negative_scores)):
        if np.size(scores) == 0 or np.isnan(scores).any():
            raise UsageError(f"{name} must hold at least one score and no nan; got {np.size(scores)} scores.")
    ascending = np.sort(negative_scores, axis=None)
    below = np.searchsorted(ascending, positive_scores, side="left")
    not_above = np.searchsorted(ascending, positive_scores, side="right")
    return float((below + not_above).mean() / (2 * ascending.size))
