"""Samplers that draw one class at a time, each draw like the one before. Shapes: S sampled, C classes."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from widemax.samplers.base import Candidates, Sampler


class ReplacementSampler(Sampler):
    """Independent draws with replacement, de-duplicated unless told otherwise.

    n draws from q, then E[times y stands in the draw] is n q(y) with duplicates kept, and the probability
    1 − (1 − q(y))^n that it was drawn at all once de-duplicated.

    Args:
        num_classes: candidates come from [0, num_classes).
        class_counts: [C] class frequencies, for members that use them.
        unique: whether a class drawn several times stands once.

    Source: Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine Translation", §3.
    """

    def __init__(self, num_classes: int, class_counts: Tensor | None = None, *, unique: bool = True) -> None:
        super().__init__(num_classes, class_counts)
        self.unique = unique

    @abstractmethod
    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        """[S] independent draws from q, in any order."""

    @abstractmethod
    def probs(self, class_ids: Tensor) -> Tensor:
        """float64 q(y) of each class: the probability that a single draw gives it."""

    def draw(self, labels: Tensor, num_sampled: int, *, generator: torch.Generator) -> Candidates:
        ids_S = self.draw_ids(num_sampled, generator=generator)
        ids_S = torch.unique(ids_S) if self.unique else ids_S.sort().values
        return Candidates(
            ids_S,
            self.log_expected_count(ids_S, num_sampled),
            self.log_expected_count(labels, num_sampled),
        )

    def log_expected_count(self, class_ids: Tensor, num_sampled: int) -> Tensor:
        probs = self.probs(class_ids)
        if self.unique:
            return torch.log(-torch.expm1(num_sampled * torch.log1p(-probs)))
        return math.log(num_sampled) + probs.log()
