"""How badly a class fits a row, as conformal sets measure it. Shapes: B rows, K listed classes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from widemax.evaluation.rows import FloatArray, IntArray
from widemax.options import checked


class ConformalScore(ABC):
    """How badly each listed class fits its row; never falls from one rank to the next."""

    is_randomized: ClassVar[bool]

    @abstractmethod
    def listed(self, probs_BK: FloatArray, uniform_B: FloatArray) -> FloatArray:
        """The score of each listed class, best class first, [B, K]."""

    @abstractmethod
    def next_at_least(self, probs_BK: FloatArray) -> FloatArray:
        """A lower bound on the score of the class after the last listed one, [B]."""


@dataclass(frozen=True)
class LAC(ConformalScore):
    """1 − p_y: the smallest sets on average, but some are empty, and hard rows are covered less often.

    Source: Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels
        (Journal of the American Statistical Association 2019).

    Example:
        >>> LAC().listed(np.array([[0.75, 0.25]]), np.zeros(1)).tolist()
        [[0.25, 0.75]]
    """

    is_randomized = False

    def listed(self, probs_BK: FloatArray, uniform_B: FloatArray) -> FloatArray:
        return 1 - probs_BK

    def next_at_least(self, probs_BK: FloatArray) -> FloatArray:
        return np.asarray(1 - np.minimum(probs_BK[:, -1], 1 - probs_BK.sum(axis=1)), np.float64)


@checked
@dataclass(frozen=True)
class RAPS(ConformalScore):
    """Σ_{ranks before y} p + u·p_y + penalty·max(0, rank − free_ranks): as APS, with fewer very large sets.

    Args:
        penalty: what each rank beyond the free ones costs, ≥ 0.
        free_ranks: how many ranks cost nothing.

    Source: Angelopoulos, Bates, Malik and Jordan, Uncertainty Sets for Image Classifiers using Conformal
        Prediction (ICLR 2021).

    Example:
        >>> RAPS(penalty=0.5, free_ranks=1).listed(np.array([[0.75, 0.25]]), np.array([0.5])).tolist()
        [[0.375, 1.375]]
    """

    penalty: Annotated[float, Field(ge=0.0)] = 0.01
    free_ranks: Annotated[int, Field(ge=0)] = 5
    is_randomized: ClassVar[bool] = True

    def listed(self, probs_BK: FloatArray, uniform_B: FloatArray) -> FloatArray:
        before_BK = np.zeros_like(probs_BK)
        np.cumsum(probs_BK[:, :-1], axis=1, out=before_BK[:, 1:])
        ranks_K = np.arange(1, probs_BK.shape[1] + 1)
        return before_BK + uniform_B[:, None] * probs_BK + self._penalty(ranks_K)

    def next_at_least(self, probs_BK: FloatArray) -> FloatArray:
        return np.asarray(probs_BK.sum(axis=1) + self._penalty(np.array(probs_BK.shape[1] + 1)), np.float64)

    def _penalty(self, ranks: IntArray) -> FloatArray:
        return np.asarray(self.penalty * np.maximum(ranks - self.free_ranks, 0), np.float64)


@dataclass(frozen=True)
class APS(ConformalScore):
    """Σ_{ranks before y} p + u·p_y, u uniform in [0, 1): sets as large as each row is hard.

    u is one number a row. Without it the class that crosses the threshold would be always in or always out;
    always in, the sets hold the label more often than was asked for.

    Source: Romano, Sesia and Candès, Classification with Valid and Adaptive Coverage (NeurIPS 2020).

    Example:
        >>> APS().listed(np.array([[0.75, 0.25]]), np.array([0.5])).tolist()
        [[0.375, 0.875]]
    """

    is_randomized = True

    def listed(self, probs_BK: FloatArray, uniform_B: FloatArray) -> FloatArray:
        return RAPS(penalty=0.0).listed(probs_BK, uniform_B)

    def next_at_least(self, probs_BK: FloatArray) -> FloatArray:
        return RAPS(penalty=0.0).next_at_least(probs_BK)
