"""What a head answered about one chunk of rows: all that a metric sees.

B rows, P labels of all rows together, K kept predictions, C classes.
"""

# ruff: noqa: N802 - a method that gives an array ends in its shape, as every array does

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from widemax.conformity import Conformity
from widemax.errors import ShapeError
from widemax.options import checked

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Array = NDArray[np.generic]


def _require(holds: bool, name: str, must_be: str, array: Array) -> None:
    if not holds:
        raise ShapeError(f"{name} must be {must_be}; got shape {array.shape}. Build it from the same chunk.")


@checked
@dataclass(frozen=True, eq=False)
class OneLabelRows:
    """Rows with one right class each.

    Args:
        labels_B: class ids, int64; -1 where training never saw the label.
        ranks_B: 1-based rank of the label among all classes, ties broken by class id; 0 where it is -1.
        log_probs_B: log-probability of the label in nats; nan where the label is -1.
        topk_ids_BK: the K best class ids, best first; K ≥ 10, or K = C when there are fewer classes.
        topk_log_probs_BK: their log-probabilities in nats.
        square_sums_B: Σ_j p_bj² over all classes; nan where probabilities do not sum to 1.

    Raises:
        ShapeError: two arrays do not describe the same rows.

    Example:
        >>> rows = OneLabelRows(
        ...     labels_B=np.array([1, -1]),
        ...     ranks_B=np.array([2, 0]),
        ...     log_probs_B=np.log([0.4, np.nan]),
        ...     topk_ids_BK=np.array([[0, 1], [1, 0]]),
        ...     topk_log_probs_BK=np.log([[0.6, 0.4], [0.9, 0.1]]),
        ...     square_sums_B=np.array([0.52, 0.82]),
        ... )
        >>> len(rows), rows.num_unseen
        (2, 1)
    """

    labels_B: IntArray
    ranks_B: IntArray
    log_probs_B: FloatArray
    topk_ids_BK: IntArray
    topk_log_probs_BK: FloatArray
    square_sums_B: FloatArray

    def __post_init__(self) -> None:
        B = self.labels_B.shape[0] if self.labels_B.ndim else 0
        _require(self.labels_B.ndim == 1, "labels_B", "one class id a row", self.labels_B)
        _require(self.ranks_B.shape == (B,), "ranks_B", f"of shape ({B},)", self.ranks_B)
        _require(self.log_probs_B.shape == (B,), "log_probs_B", f"of shape ({B},)", self.log_probs_B)
        topk_shape = self.topk_ids_BK.shape
        _require(len(topk_shape) == 2 and topk_shape[0] == B, "topk_ids_BK", f"({B}, K)", self.topk_ids_BK)
        same = self.topk_log_probs_BK.shape == topk_shape
        _require(same, "topk_log_probs_BK", f"of shape {topk_shape}", self.topk_log_probs_BK)
        _require(self.square_sums_B.shape == (B,), "square_sums_B", f"of shape ({B},)", self.square_sums_B)

    def __len__(self) -> int:
        return len(self.labels_B)

    @property
    def largest_id(self) -> int:
        """The largest class id."""
        return int(max(self.labels_B.max(initial=-1), self.topk_ids_BK.max(initial=-1)))

    @property
    def num_unseen(self) -> int:
        """Rows whose label training never saw."""
        return int((self.labels_B < 0).sum())

    @property
    def predicted_B(self) -> IntArray:
        """The best class of each row."""
        return self.topk_ids_BK[:, 0]

    @cached_property
    def confidence_B(self) -> FloatArray:
        """The probability of the best class of each row."""
        return np.exp(self.topk_log_probs_BK[:, 0].astype(np.float64))

    def conformity(self) -> Conformity:
        """How probable the labels are that training knows."""
        known_B = self.labels_B >= 0
        probs_P = np.exp(self.log_probs_B[known_B].astype(np.float64))
        return Conformity(probs_P, self.ranks_B[known_B], np.ones(len(probs_P)), len(self))


@checked
@dataclass(frozen=True, eq=False)
class SeveralLabelRows:
    """Rows with several right classes each.

    The labels of row b are ``label_ids_P[offsets_B1[b]:offsets_B1[b + 1]]``. A row may have no labels.
    Metrics that divide by the number of labels leave such a row out of their mean; precision keeps it, since
    whatever is predicted there is wrong.

    Args:
        label_ids_P: class ids, int64, distinct within a row; -1 for each label that training never saw.
        offsets_B1: B + 1 ascending offsets from 0 to P.
        ranks_P: 1-based rank of each label among all classes that may be ranked; 0 where the label is -1 or
            may not be ranked.
        topk_ids_BK: the K best class ids, best first; K ≥ 20, or K = C when there are fewer classes.
        topk_log_probs_BK: their log-probabilities in nats, which a threshold asks for.

    Raises:
        ShapeError: two arrays do not describe the same rows.

    Example:
        >>> rows = SeveralLabelRows(
        ...     label_ids_P=np.array([2, 0, -1]),
        ...     offsets_B1=np.array([0, 1, 3]),
        ...     ranks_P=np.array([1, 3, 0]),
        ...     topk_ids_BK=np.array([[2, 1, 0], [1, 2, 0]]),
        ... )
        >>> rows.num_labels_B.tolist(), rows.sum_by_row(rows.hits_P(3)).tolist()
        ([1, 2], [1.0, 1.0])
    """

    label_ids_P: IntArray
    offsets_B1: IntArray
    ranks_P: IntArray
    topk_ids_BK: IntArray
    topk_log_probs_BK: FloatArray | None = None

    def __post_init__(self) -> None:
        P = self.label_ids_P.size
        _require(self.label_ids_P.ndim == 1, "label_ids_P", "one class id a label", self.label_ids_P)
        _require(self.ranks_P.shape == (P,), "ranks_P", f"of shape ({P},)", self.ranks_P)
        offsets = self.offsets_B1
        spans = offsets.ndim == 1 and offsets.size > 0 and offsets[0] == 0 and offsets[-1] == P
        _require(bool(spans), "offsets_B1", f"offsets from 0 to {P}", offsets)
        B = offsets.size - 1
        is_topk = self.topk_ids_BK.ndim == 2 and self.topk_ids_BK.shape[0] == B
        _require(is_topk, "topk_ids_BK", f"of shape ({B}, K)", self.topk_ids_BK)
        if self.topk_log_probs_BK is not None:
            shape = self.topk_ids_BK.shape
            same = self.topk_log_probs_BK.shape == shape
            _require(same, "topk_log_probs_BK", f"of shape {shape}", self.topk_log_probs_BK)

    def __len__(self) -> int:
        return len(self.offsets_B1) - 1

    @property
    def largest_id(self) -> int:
        """The largest class id."""
        return int(max(self.label_ids_P.max(initial=-1), self.topk_ids_BK.max(initial=-1)))

    @property
    def num_unseen(self) -> int:
        """Labels that training never saw."""
        return int((self.label_ids_P < 0).sum())

    @cached_property
    def num_labels_B(self) -> IntArray:
        """The number of labels of each row, unseen ones included."""
        return np.diff(self.offsets_B1)

    @cached_property
    def row_of_label_P(self) -> IntArray:
        """The row that each label belongs to."""
        return np.repeat(np.arange(len(self)), self.num_labels_B)

    @checked
    def hits_P(self, k: int) -> NDArray[np.bool_]:
        """Whether each label is among the first k predictions of its row."""
        return (self.ranks_P >= 1) & (self.ranks_P <= k)

    @checked
    def sum_by_row(self, values_P: Array) -> FloatArray:
        """The sum over each row's labels; 0 for a row without labels."""
        return np.asarray(np.bincount(self.row_of_label_P, values_P, minlength=len(self)), np.float64)

    @checked
    def take(self, where_B: NDArray[np.bool_]) -> "SeveralLabelRows":
        """Some of the rows."""
        where_P = where_B[self.row_of_label_P]
        log_probs_BK = self.topk_log_probs_BK
        return SeveralLabelRows(
            label_ids_P=self.label_ids_P[where_P],
            offsets_B1=np.append(0, np.cumsum(self.num_labels_B[where_B])),
            ranks_P=self.ranks_P[where_P],
            topk_ids_BK=self.topk_ids_BK[where_B],
            topk_log_probs_BK=None if log_probs_BK is None else log_probs_BK[where_B],
        )

    def conformity(self) -> Conformity:
        """How probable the labels are that stand among the kept predictions."""
        assert self.topk_log_probs_BK is not None
        hit_P = self.hits_P(self.topk_ids_BK.shape[1])
        rows_P, ranks_P = self.row_of_label_P[hit_P], self.ranks_P[hit_P]
        probs_P = np.exp(self.topk_log_probs_BK[rows_P, ranks_P - 1].astype(np.float64))
        return Conformity(probs_P, ranks_P, 1 / self.num_labels_B[rows_P], int((self.num_labels_B > 0).sum()))
