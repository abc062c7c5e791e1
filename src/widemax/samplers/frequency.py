"""Classes as often as the training data have them, flattened by a power. Shapes: S sampled, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.samplers.base import needed_counts, samplers
from widemax.samplers.replacement import Duplicates, ReplacementSampler, below, draw_places


@samplers.register("frequency")
class Frequency(ReplacementSampler):
    """Draws class y with probability q(y) ∝ max(count(y), 1)^α; a class without a row counts as one.

    A draw inverts the cumulative distribution in float64 by binary search, so its cost does not follow the
    number of classes, which may exceed the 2^24 of ``torch.multinomial``.

    Use: the first choice where class counts are known. Without them take "log_uniform" for sorted ids, or
    "learned_frequency". Where an audit shows a large spread try "midx" or "quadratic_kernel", which follow
    the model.

    Args:
        num_classes: ``Classes`` with counts; candidates come from all of them.
        alpha: the power: 0 is uniform, 1 follows the data.

    Raises:
        ConfigError: classes without counts.

    Example:
        >>> Frequency(Classes(2, torch.tensor([16, 0]))).probs(torch.tensor([0, 1])).numpy().round(4)
        array([0.8889, 0.1111])

    Source: Mikolov et al. 2013, "Distributed Representations of Words and Phrases", §2.2 (α = 3/4).
    """

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        alpha: Annotated[float, Field(ge=0.0)] = 0.75,
        duplicates: Duplicates = "drop",
    ) -> None:
        super().__init__(num_classes, duplicates=duplicates)
        counts_C = needed_counts(num_classes, "frequency")
        self.alpha = alpha
        weights_C = counts_C.clamp(min=1).double().pow_(alpha)
        self._cumulative_C = weights_C.cumsum_(0)

    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        self._cumulative_C = self._cumulative_C.to(generator.device)
        return draw_places(self._cumulative_C, num_sampled, generator)

    def probs(self, class_ids: Tensor) -> Tensor:
        # The width of the interval a class is drawn from: by construction what draw_ids does.
        self._cumulative_C = self._cumulative_C.to(class_ids.device)
        width = self._cumulative_C[class_ids] - below(self._cumulative_C, class_ids)
        return width / self._cumulative_C[-1]
