"""Every class for itself: independent inclusion. Shapes: S sampled, C classes."""

import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.samplers.base import Proposal, Query, Sampler, SamplerSpec, build_sampler, samplers
from widemax.samplers.replacement import ReplacementSampler, log_at_least_once


@samplers.register("poisson")
class Poisson(Sampler):
    """Includes each class y independently of all others, with probability Q(y) = 1 − exp(−n·q(y)).

    P(S) = Π_{y∈S} Q(y) · Π_{y∉S} (1 − Q(y)): the sampling for which the correction "conditional" is exact by
    Bayes' rule. Asking every class would cost O(C); a Poisson number of draws from q, with mean n, has the
    same distribution (its counts are independent Poisson variables of mean n·q(y)) at the cost of the draws.

    Use: where the correction "conditional" must be exact, as in a proof or a test. The number of candidates
    varies from draw to draw; with many draws from many classes the sampler ``of`` itself, duplicates dropped,
    hardly differs.

    Args:
        of: the sampler whose single draw has distribution q.

    Raises:
        ConfigError: ``of`` does not draw one class at a time, or learns.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> Poisson(100, of="uniform").draw(torch.tensor([3]), 4, generator=generator).class_ids
        tensor([19, 26, 33, 56, 68, 91, 94])

    Source: TensorFlow, "Candidate Sampling Algorithms", sampled softmax, which assumes this sampling.
    """

    waits = frozenset({"unique", "read"})

    def __init__(self, num_classes: int | Classes, *, of: SamplerSpec = "frequency") -> None:
        super().__init__(num_classes)
        single = build_sampler(of, num_classes)
        if not isinstance(single, ReplacementSampler) or single.state():
            raise ConfigError(
                f"the sampler 'poisson' must be of one that draws a class at a time and does not learn; "
                f"got {of!r}. Use 'uniform', 'log_uniform' or 'frequency'."
            )
        self.single = single

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        mean = torch.full((), float(num_sampled), dtype=torch.float64, device=generator.device)
        num_draws = int(torch.poisson(mean, generator=generator))
        return Proposal(
            torch.unique(self.single.draw_ids(num_draws, generator=generator)),
            lambda ids: log_at_least_once(num_sampled * self.single.probs(ids)),
        )
