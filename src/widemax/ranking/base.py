"""What a ranking objective is, and the registry of them.

Shapes: Q queries, K candidates, F features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from widemax.registry import Registry

Array = NDArray[Any]
Strength = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, eq=False)
class Queries:
    """The candidates of some queries, as the retriever orders them.

    Args:
        features_QKF: what is known of them, each feature with mean 0 and deviation 1 or so.
        value_QK: what came of each: seconds watched, 1 for a click, 0 for nothing.
        valid_QK: whether there is such a candidate; the last ones of a query may be missing.
    """

    features_QKF: Array
    value_QK: Array
    valid_QK: Array

    def take(self, where_Q: Array) -> "Queries":
        """Some of the queries, by a mask or by positions."""
        return Queries(self.features_QKF[where_Q], self.value_QK[where_Q], self.valid_QK[where_Q])


class Objective(ABC):
    """What the score s = x · w + b of a candidate is fitted to.

    Args:
        C: inverse strength of the penalty ‖w‖² / 2 beside the sum of the losses.

    Attributes:
        estimates_value: whether exp(s) estimates the value of a candidate.
    """

    estimates_value: ClassVar[bool] = False

    def __init__(self, *, C: Strength = 1.0) -> None:
        self.C = C

    @abstractmethod
    def fit(self, queries: Queries) -> Array:
        """The weights [F + 1], the bias last; at least one value is above 0."""

    def log_probs(self, scores_BK: Tensor) -> Tensor:
        """Log-probabilities [B, K] of scores: of being the one that is taken of the candidates."""
        return scores_BK.log_softmax(1)

    def minimum(self, loss: Callable[[Tensor], Tensor], start_F: Array) -> Array:
        """The weights [F] that minimize a sum of losses beside the penalty, by L-BFGS."""
        from scipy.optimize import minimize

        def value_and_gradient(weight_F: Array) -> tuple[float, Array]:
            weight = torch.tensor(weight_F, requires_grad=True)
            total = loss(weight) + weight.square().sum() / (2 * self.C)
            (gradient_F,) = torch.autograd.grad(total, weight)
            return float(total.detach()), gradient_F.numpy()

        weight_F: Array = minimize(value_and_gradient, start_F, jac=True, method="L-BFGS-B").x
        return weight_F


objectives: Registry[type[Objective]] = Registry("ranking objective", "widemax.ranking")


def ranks_of(scores_QK: Array, valid_QK: Array) -> Array:
    """The rank [Q, K] from 1 of each candidate by falling scores; ties stay in their order."""
    order_QK = np.argsort(np.where(valid_QK, -scores_QK, np.inf), axis=1, kind="stable")
    ranks_QK: Array = np.argsort(order_QK, axis=1) + 1
    return ranks_QK


def dcg(value_QK: Array, ranks_QK: Array, *, k: int) -> Array:
    """[Q] Σ value / log2(1 + rank) over the first k ranks."""
    total_Q: Array = np.where(ranks_QK <= k, value_QK / np.log2(1 + ranks_QK), 0.0).sum(1)
    return total_Q
