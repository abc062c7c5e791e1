"""The labels whose probability reaches a threshold, how right they are, and how many of the right they are.

Shapes: B rows, P labels of all rows, K kept predictions a row, N of all rows.
"""

import numpy as np
from numpy.typing import NDArray

from widemax.conformity import Conformity
from widemax.errors import UsageError
from widemax.evaluation.rows import SeveralLabelRows
from widemax.options import checked


@checked
class Threshold:
    """The micro F1 of the labels that reach a probability, over a stream of rows; the best such probability.

    F1 = 2 · right / (given + labels), counted over all rows and classes. Of each row the kept predictions may
    be given. A row without labels counts as well: what is given there is wrong.

    Source: Lipton, Elkan, Narayanaswamy, Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML
    2014.

    Example:
        >>> rows = SeveralLabelRows(
        ...     np.array([1]), np.array([0, 1]), np.array([1]), np.array([[1, 0]]), np.log([[0.4, 0.3]])
        ... )
        >>> threshold = Threshold()
        >>> threshold.update(rows)
        >>> round(threshold.best(), 3), round(threshold.f1(0.35), 3), round(threshold.f1(0.2), 3)
        (0.35, 1.0, 0.667)
    """

    def __init__(self) -> None:
        self._probs: list[np.ndarray] = []
        self._right: list[np.ndarray] = []
        self._conformity: list[Conformity] = []
        self._num_labels = self._num_rows = 0

    @checked
    def update(self, rows: SeveralLabelRows) -> None:
        """Take one chunk of rows into account.

        Raises:
            UsageError: the chunk lacks the log-probabilities of its predictions.
        """
        if rows.topk_log_probs_BK is None:
            raise UsageError(
                "rows must have topk_log_probs_BK, which a threshold is compared with; got None."
            )
        right_BK: NDArray[np.bool_] = np.zeros(rows.topk_ids_BK.shape, np.bool_)
        hit_P = rows.hits_P(right_BK.shape[1])
        right_BK[rows.row_of_label_P[hit_P], rows.ranks_P[hit_P] - 1] = True
        self._right.append(right_BK.ravel())
        self._probs.append(np.exp(rows.topk_log_probs_BK).ravel())
        self._conformity.append(rows.conformity())
        self._num_labels += len(rows.label_ids_P)
        self._num_rows += len(rows)

    def best(self) -> float:
        """The threshold with the best F1, midway between the last given probability and the next one."""
        falling_N, next_N, order_N = self._falling()
        right_N = np.concatenate(self._right)[order_N]
        f1_N = 2 * right_N.cumsum() / (np.arange(1, len(order_N) + 1) + self._num_labels)
        # Equal probabilities are given together.
        best = np.where(falling_N > next_N, f1_N, -1).argmax()
        return float(falling_N[best] + next_N[best]) / 2

    @property
    def conformity(self) -> Conformity:
        """What the right labels among the kept predictions promise of new rows."""
        return Conformity.joined(self._conformity)

    def mean_size(self, threshold: float) -> float:
        """How many labels of a row reach a threshold, in the mean."""
        return float((np.concatenate(self._probs) >= threshold).sum() / self._num_rows)

    def _falling(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[N] the probabilities, highest first, that after each, and the order."""
        probs_N = np.concatenate([np.empty(0), *self._probs])
        order_N = np.argsort(-probs_N, kind="stable")
        falling_N = probs_N[order_N]
        return falling_N, np.append(falling_N[1:], 0.0)[: len(falling_N)], order_N

    @checked
    def f1(self, threshold: float) -> float:
        """The F1 of the labels that reach a probability; nan where there is neither a label nor one given."""
        given_N = np.concatenate(self._probs) >= threshold
        right = (np.concatenate(self._right) & given_N).sum()
        total = given_N.sum() + self._num_labels
        return float(2 * right / total) if total else float("nan")
