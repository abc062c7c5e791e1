"""Zipf's law over class ids sorted by frequency. Shapes: S sampled."""

import math

import torch
from torch import Tensor

from widemax.samplers.base import samplers
from widemax.samplers.replacement import ReplacementSampler, uniform_float64


@samplers.register("log_uniform")
class LogUniform(ReplacementSampler):
    """Draws class k with probability q(k) = log1p(1 / (k + 1)) / log(C + 1).

    Class 0 must be the most frequent class, class 1 the next, and so on, as label vocabularies order them.

    Use: where class ids are sorted by frequency and no counts are at hand. With ids in another order the loss
    is still corrected, but the wrong classes are drawn often: take "uniform" or "learned_frequency". With
    counts "frequency" fits the data better.

    Example:
        >>> LogUniform(9).probs(torch.tensor([0, 8])).numpy().round(4)
        array([0.301 , 0.0458])

    Source: TensorFlow, log_uniform_candidate_sampler.
    """

    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        uniform_S = uniform_float64(num_sampled, generator)
        ids_S = (uniform_S * math.log(self.num_classes + 1)).exp().long() - 1
        # Rounding can lift the largest draw to C.
        return ids_S.clamp_(max=self.num_classes - 1)

    def probs(self, class_ids: Tensor) -> Tensor:
        # log(k + 2) − log(k + 1) would cancel for large k.
        return class_ids.double().add_(1).reciprocal_().log1p_().div_(math.log(self.num_classes + 1))
