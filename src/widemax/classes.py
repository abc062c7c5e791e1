"""How many classes there are, and what is known of them before training."""

from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from widemax.errors import ConfigError, ShapeError
from widemax.options import AtLeast1, checked

MOVED = dict.fromkeys(
    ("class_counts", "num_rows"), "pass Classes(num_classes, counts, num_rows) in place of num_classes."
)
"""What heads and samplers took beside the number of classes, and how it is passed now."""


@final
@checked
class Classes:
    """A number of classes, with their frequencies where these are known.

    Heads and samplers take it in place of the plain number of classes.

    Args:
        num: C, at least 1.
        counts: [C] how often each class occurs in the training data.
        num_rows: rows of the training data, for yes-or-no questions, where counts need not sum to it.

    Raises:
        ConfigError: a count that is negative or not finite.
        OptionError: no class, or another argument of a wrong kind.
        ShapeError: not one count a class.

    Example:
        >>> Classes(3, torch.tensor([5, 0, 2]))
        Classes(3, with counts)
    """

    def __init__(
        self,
        num: AtLeast1,
        counts: Tensor | NDArray[np.float64] | None = None,
        num_rows: AtLeast1 | None = None,
    ) -> None:
        if counts is not None:
            counts = counts if isinstance(counts, Tensor) else torch.as_tensor(counts)
            if counts.shape != (num,):
                raise ShapeError(
                    f"counts must hold one count for each of {num} classes; got shape {tuple(counts.shape)}."
                )
            if counts.is_complex() or not (counts.isfinite() & (counts >= 0)).all():
                raise ConfigError("counts must be finite and at least 0; say how often each class occurs.")
        self.num = num
        self.counts = counts
        self.num_rows = num_rows

    def __repr__(self) -> str:
        return f"Classes({self.num}{', with counts' if self.counts is not None else ''})"

    @staticmethod
    def of(classes: "int | Classes") -> "Classes":
        """A plain number of classes as one of these, of unknown frequencies."""
        return classes if isinstance(classes, Classes) else Classes(classes)


PROPENSITY_A, PROPENSITY_B = 0.55, 1.5


def inverse_propensity(counts: NDArray[np.int64], num_rows: int) -> NDArray[np.float64]:
    """How much a hit on a class seen ``counts`` times is worth.

    1/p = 1 + c·(count + B)^−A, c = (log N − 1)·(B + 1)^A, A = 0.55, B = 1.5, N training rows. A label that
    training never saw has count 0. For N < e, where the formula would give p > 1, p is 1.

    Source: Jain et al., Extreme Multi-label Loss Functions (KDD 2016), section 4.

    Example:
        >>> inverse_propensity(np.array([0, 1000]), 100_000).round(3).tolist()
        [14.923, 1.389]
    """
    c = max(np.log(num_rows) - 1, 0.0) * (PROPENSITY_B + 1) ** PROPENSITY_A if num_rows else 0.0
    return np.asarray(1 + c * (counts + PROPENSITY_B) ** -PROPENSITY_A, np.float64)
