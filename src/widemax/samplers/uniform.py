"""Every class alike. Shapes: S sampled."""

import torch
from torch import Tensor

from widemax.samplers.base import samplers
from widemax.samplers.replacement import ReplacementSampler


@samplers.register("uniform")
class Uniform(ReplacementSampler):
    """Draws every class with probability q = 1 / C.

    Use: for classes of similar frequency, for scores with margins, and as the part of a "mixture" that leaves
    no class out. Where frequencies differ widely its draws seldom meet the classes that a model confuses:
    take "frequency", or "log_uniform" for sorted ids.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> Uniform(10).draw(torch.tensor([3]), 4, generator=generator).class_ids
        tensor([0, 3, 4, 9])

    Source: TensorFlow, uniform_candidate_sampler.
    """

    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        return torch.randint(self.num_classes, (num_sampled,), generator=generator, device=generator.device)

    def probs(self, class_ids: Tensor) -> Tensor:
        return torch.full(class_ids.shape, 1 / self.num_classes, dtype=torch.float64, device=class_ids.device)
