"""Rows grouped by the probability of their best class."""

import numpy as np
from numpy.typing import NDArray

from widemax.errors import ShapeError
from widemax.evaluation.rows import FloatArray, IntArray
from widemax.options import AtLeast1, checked


@checked
class ConfidenceBins:
    """Counts, confidence and hits of rows in equal-width bins (lo, hi] of confidence; the first includes 0.

    Args:
        num_bins: M bins over [0, 1].

    Example:
        >>> bins = ConfidenceBins(2)
        >>> bins.update(np.array([0.4, 0.9, 0.7]), np.array([False, True, False]))
        >>> bins.num_rows_M.tolist(), round(bins.calibration_error(), 3)
        ([1, 2], 0.333)
    """

    def __init__(self, num_bins: AtLeast1 = 15) -> None:
        self.num_bins = num_bins
        self.num_rows_M: IntArray = np.zeros(num_bins, np.int64)
        self.num_right_M: IntArray = np.zeros(num_bins, np.int64)
        self.confidence_sum_M: FloatArray = np.zeros(num_bins)

    @checked
    def update(self, confidence_B: FloatArray, right_B: NDArray[np.bool_]) -> None:
        """Take rows into account, given the best class's probability and whether it is the label.

        Raises:
            ShapeError: not one of each a row.
        """
        if confidence_B.ndim != 1 or confidence_B.shape != right_B.shape:
            raise ShapeError(
                f"right_B must hold one answer for each of the rows of confidence_B, {confidence_B.shape}; "
                f"got shape {right_B.shape}."
            )
        bin_B = np.clip(np.ceil(confidence_B * self.num_bins).astype(np.int64) - 1, 0, self.num_bins - 1)
        self.num_rows_M += np.bincount(bin_B, minlength=self.num_bins)
        self.num_right_M += np.bincount(bin_B[right_B], minlength=self.num_bins)
        self.confidence_sum_M += np.bincount(bin_B, weights=confidence_B, minlength=self.num_bins)

    def calibration_error(self) -> float:
        """``Σ_m (n_m/n)·|accuracy_m − confidence_m|``; nan without rows."""
        num_rows = self.num_rows_M.sum()
        if num_rows == 0:
            return float("nan")
        return float(np.abs(self.num_right_M - self.confidence_sum_M).sum() / num_rows)
