"""Mean and standard deviation of columns in one pass."""

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


class RunningMoments:
    """Merges the moments of chunks in float64; NaN counts as absent.

    mean ← mean + δ · n_b/n;  M2 ← M2 + M2_b + δ² · n_a n_b / n, where δ is the difference of the two means.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979, equations 2.1.

    Example:
        >>> moments = RunningMoments()
        >>> moments.update(np.array([[1.0], [np.nan]]))
        >>> moments.update(np.array([[3.0]]))
        >>> moments.mean_N.tolist(), moments.scale.tolist()
        ([2.0], [1.0])
    """

    def __init__(self) -> None:
        self.count_N: Float = np.zeros(0)
        self.mean_N: Float = np.zeros(0)
        self._squares_N: Float = np.zeros(0)

    def update(self, values_BN: npt.NDArray[np.floating[Any]]) -> None:
        """Adds rows."""
        if not len(self.count_N):
            self.count_N, self.mean_N, self._squares_N = np.zeros((3, values_BN.shape[1]))
        present_BN = ~np.isnan(values_BN)
        values = np.where(present_BN, values_BN, 0).astype(np.float64)
        count_N = present_BN.sum(axis=0).astype(np.float64)
        mean_N = values.sum(axis=0) / np.maximum(count_N, 1)
        squares_N = np.square(np.where(present_BN, values - mean_N, 0)).sum(axis=0)
        total_N = np.maximum(self.count_N + count_N, 1)
        delta_N = mean_N - self.mean_N
        self._squares_N += squares_N + np.square(delta_N) * self.count_N * count_N / total_N
        self.mean_N += delta_N * count_N / total_N
        self.count_N += count_N

    @property
    def scale(self) -> Float:
        """The standard deviation (divisor n), or 1 for a constant column."""
        deviation_N: Float = np.sqrt(self._squares_N / np.maximum(self.count_N, 1))
        # Rounding leaves a constant column with a deviation of a few times 1e-16 of its mean.
        return np.where(deviation_N <= 1e-14 * np.abs(self.mean_N), 1.0, deviation_N)

    @property
    def common_scale(self) -> float:
        """One scale for all columns: the root mean square of their deviations, or 1 if all are constant."""
        squares, num_values = np.sum(self._squares_N), max(np.sum(self.count_N), 1)
        constant = squares <= 1e-28 * np.sum(self.count_N * np.square(self.mean_N))
        return 1.0 if constant else float(np.sqrt(squares / num_values))
