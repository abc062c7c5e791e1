"""Numbers as where they lie in the quantiles of their column.

Letters: B rows of a chunk, R rows of training, N columns, E bins of all columns.
"""

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def quantile_bins(values_RN: Float, *, num_bins: int) -> tuple[npt.NDArray[np.int64], Float, Float]:
    """Column [E], start [E] and width [E] of bins of about as many rows each, at most ``num_bins`` a column.

    A value that stands in many rows ends bins once, so that a column of few values has fewer. NaN counts as
    absent, and a constant column has no bin.

    Example:
        >>> column_E, start_E, width_E = quantile_bins(np.array([[0, 1], [1, 1], [9, 1.0]]), num_bins=2)
        >>> column_E.tolist(), start_E.tolist(), width_E.tolist()
        ([0, 0], [0.0, 1.0], [1.0, 8.0])
    """
    shares = np.linspace(0, 1, num_bins + 1)
    present = [column_R[~np.isnan(column_R)] for column_R in values_RN.T]
    edges = [
        np.unique(np.quantile(column_R, shares, method="nearest")) if len(column_R) else column_R
        for column_R in present
    ]
    column_E = np.repeat(np.arange(len(edges)), [max(len(each) - 1, 0) for each in edges])
    nothing = np.empty(0)
    return (
        column_E,
        np.concatenate([nothing, *(each[:-1] for each in edges)]),
        np.concatenate([nothing, *map(np.diff, edges)]),
    )


def piecewise_linear(
    values_BN: Float, column_E: npt.NDArray[np.int64], start_E: Float, width_E: Float
) -> Float:
    """How far each value is through each bin of its column [B, E]: from −1 before to 1 after it, 0 for NaN.

    A linear layer of these is any continuous function of each column that is linear within its bins, so that
    a small step can matter where rows are dense.

    Example:
        >>> bins = np.array([0, 0]), np.array([0.0, 1.0]), np.array([1.0, 8.0])
        >>> piecewise_linear(np.array([[-3.0], [1.0], [3.0], [np.nan]]), *bins).tolist()
        [[-1.0, -1.0], [1.0, -1.0], [1.0, -0.5], [0.0, 0.0]]

    Source: Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning",
    NeurIPS 2022, section 3.2.1, centered.
    """
    with np.errstate(over="ignore"):
        through_BE = (values_BN[:, column_E] - start_E) / width_E
    return np.asarray(np.nan_to_num(2 * through_BE.clip(0, 1) - 1, nan=0.0), np.float64)
