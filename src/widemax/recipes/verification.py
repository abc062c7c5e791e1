"""The same class or not: pairs of rows compared by their features.

Shapes: B rows, D features, P pairs of one class, Q pairs of two, N false accept rates.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from widemax.evaluation import auroc
from widemax.recipes.base import Array

COMPARED = {"distance": "Euclidean distance", "cosine": "the cosine of the angle"}


@dataclass(frozen=True)
class Alike:
    """How alike pairs of one class are, and pairs of two.

    Example:
        >>> alike = Alike(np.array([0.9, 0.6, 0.2]), np.array([0.5, 0.1]))
        >>> [round(share, 2) for share in alike.accepted(np.array([0.0, 1.0])).tolist()]
        [0.67, 1.0]
    """

    same_P: Array
    different_Q: Array

    def accepted(self, rates: Array) -> Array:
        """[N] share of pairs of one class accepted where these shares of the others are."""
        descending = np.sort(self.different_Q)[::-1]
        num_false_N = np.floor(rates * len(descending)).astype(int)
        # The highest score of two classes that is not accepted; below all of them for a rate of 1.
        thresholds_N = np.append(descending, -np.inf)[num_false_N]
        return np.asarray((self.same_P[:, None] > thresholds_N).mean(axis=0))

    def accepted_at(self, rate: float) -> float:
        """The same at one rate."""
        return float(self.accepted(np.array([rate]))[0])

    @property
    def area(self) -> float:
        """The area under the curve of `accepted` over all rates."""
        return auroc(self.same_P, self.different_Q)


def compare(features: Tensor, labels: Tensor, *, num_pairs: int, seed: int) -> dict[str, Alike]:
    """Pairs of rows [B, D] drawn at random and compared in both ways, those of a row with itself left out."""
    generator = torch.Generator().manual_seed(seed)
    ones, others = torch.randint(len(labels), (2, num_pairs), generator=generator)
    ones, others = ones[ones != others], others[ones != others]
    scores = {
        "cosine": torch.cosine_similarity(features[ones], features[others]),
        "distance": -torch.linalg.vector_norm(features[ones] - features[others], dim=1),
    }
    same = labels[ones] == labels[others]
    return {way: Alike(score[same].numpy(), score[~same].numpy()) for way, score in scores.items()}
