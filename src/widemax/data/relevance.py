"""Whether a column says anything about the labels. Letters: B rows, L labels, G groups of values."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from widemax.data.convert import moments, numbers

_GROUPS = 20  # the most frequent categories, or a tenth of the numbers each
_SHUFFLES = 30
_SURE = 2.5  # standard deviations above what shuffled labels give; 1 useless column in 50 reaches it


def says_nothing(values: Any, kind: str, labels: Any) -> bool:
    """Whether labels follow a column of numbers, dates or categories no more than shuffled ones do.

    The values are put into groups, whose χ² with the labels is compared with that of shuffled labels. What
    says something together with other columns only is not seen.

    Example:
        >>> import pyarrow as pa
        >>> labels = pa.array(["a", "b"] * 40)
        >>> says_nothing(pa.array(range(80)), "number", labels), says_nothing(labels, "category", labels)
        (True, False)
    """
    _, label_B = np.unique(_codes(labels), return_inverse=True)
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(label_B) for _ in range(_SHUFFLES)]
    for group_B in _groupings(values, kind):
        chances = np.array([_chi_squared(group_B, label_B) for label_B in shuffled])
        if _chi_squared(group_B, label_B) > chances.mean() + _SURE * chances.std() + 1e-9:
            return False
    return True


def _codes(values: Any) -> np.ndarray:
    codes: np.ndarray = pc.fill_null(values.dictionary_encode().indices, -1).to_numpy()
    return codes


def _groupings(values: Any, kind: str) -> list[np.ndarray]:
    """Ways to put the rows into groups, a missing value in one of its own."""
    if kind == "category":
        codes_B = _codes(values) + 1
        by_size = np.bincount(codes_B).argsort(kind="stable")[::-1]
        place = np.minimum(by_size.argsort(), _GROUPS)
        return [place[codes_B]]
    if kind == "date":
        days_B = moments(values).to_numpy(zero_copy_only=False) / 86_400
        views = [days_B, days_B // 1 % 7, days_B % 365.2425, days_B % 1]
    else:
        views = [numbers(values).to_numpy(zero_copy_only=False)]
    return [_tenths(view_B) for view_B in views]


def _tenths(floats_B: np.ndarray) -> np.ndarray:
    known = np.isfinite(floats_B)
    edges = np.quantile(floats_B[known], np.arange(1, 10) / 10) if known.any() else np.empty(0)
    return np.where(known, np.searchsorted(np.unique(edges), floats_B) + 1, 0)


def _chi_squared(group_B: np.ndarray, label_B: np.ndarray) -> float:
    num_labels = label_B.max() + 1
    counts_GL = np.bincount(group_B * num_labels + label_B, minlength=(group_B.max() + 1) * num_labels)
    counts_GL = counts_GL.reshape(-1, num_labels)
    expected_GL = np.outer(counts_GL.sum(1), counts_GL.sum(0)) / len(label_B)
    return float((counts_GL**2 / np.maximum(expected_GL, 1e-9)).sum())
