"""Where columns of numbers lie and how far they spread, whatever the outliers among them.

Letters: B rows of a chunk, R rows kept, N columns.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

# Numbers of a sample at most: quantiles of that many rows are as good as those of all.
MOST_NUMBERS = 1 << 23
LIMIT = 10.0
"""What the size of a scaled number stays below; usual numbers, pixels and embeddings lie well within."""
_LARGEST = float(np.finfo(np.float64).max)


class RowSample:
    """Every row of a stream, or every 2nd, 4th, … of a long one, in bounded memory.

    Example:
        >>> sample = RowSample()
        >>> sample.update(np.array([[1.0], [9.0]]))
        >>> sample.rows().ravel().tolist()
        [1.0, 9.0]
    """

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[np.floating[Any]]] = []
        self._step, self._num_rows = 1, 0

    def update(self, values_BN: npt.NDArray[np.floating[Any]]) -> None:
        """Adds rows."""
        self._parts.append(values_BN[-self._num_rows % self._step :: self._step])
        self._num_rows += len(values_BN)
        if sum(part.size for part in self._parts) > MOST_NUMBERS:
            self._parts = [np.concatenate(self._parts)[::2]]
            self._step *= 2

    def rows(self) -> Float:
        """[R, N] the rows kept."""
        return np.concatenate(self._parts).astype(np.float64)


def middle_and_spread(values_R: Float) -> tuple[float, float]:
    """Median and spread of a column, where the spread of a normal one is its standard deviation.

    It is that of the middle half, so that a quarter of the values on either side may be anything; where most
    values are equal, the median distance of the others from them, and 1 for a constant column. NaN counts as
    absent.

    Example:
        >>> [round(found, 2) for found in middle_and_spread(np.array([1.0, 2.0, 3.0, np.nan, 1e300]))]
        [3.0, 0.74]
    """
    values_R = values_R[~np.isnan(values_R)]
    if not len(values_R):
        return 0.0, 1.0
    # The nearest values themselves: half way to an outlier would be far off.
    lower, middle, upper = np.quantile(values_R, [0.25, 0.5, 0.75], method="nearest").tolist()
    if lower < upper:
        return middle, min(upper / 1.349 - lower / 1.349, _LARGEST)
    distances_R = np.abs(values_R / 2 - middle / 2)
    others = distances_R[distances_R > 0]
    return middle, min(2 * float(np.median(others)), _LARGEST) if len(others) else 1.0


def drawn_in(values_RN: Float) -> Float:
    """Each column with the twentieth of its largest and of its smallest values moved to the nearest other.

    Example:
        >>> drawn_in(np.array([[1.0], [2.0], [4.0], [1e300]])).ravel().tolist()
        [2.0, 2.0, 4.0, 4.0]
    """
    sorted_RN = np.sort(values_RN, axis=0)
    num_moved = min(-(-len(values_RN) // 20), (len(values_RN) - 1) // 2)
    return values_RN.clip(sorted_RN[num_moved], sorted_RN[-1 - num_moved])


def squashed(values_BN: npt.NDArray[np.floating[Any]], middle_N: Float, spread_N: Float) -> Float:
    """y / √(1 + (y / 10)²) with y = (x − middle) / spread, which lies within ±10 for any finite x.

    Example:
        >>> squashed(np.array([[0.0, 1.0, 1e308]]), np.zeros(3), np.ones(3)).round(3).tolist()
        [[0.0, 0.995, 10.0]]
    """
    with np.errstate(over="ignore"):
        # Halves do not overflow, and beyond 1e150 all is the limit.
        scaled_BN = ((values_BN / 2 - middle_N / 2) / (spread_N / 2)).clip(-1e150, 1e150)
    return np.asarray(scaled_BN / np.hypot(1, scaled_BN / LIMIT), np.float64)
