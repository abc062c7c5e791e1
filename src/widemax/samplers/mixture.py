"""Draws of several samplers side by side. Shapes: S sampled, M parts."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.options import checked
from widemax.samplers.base import Proposal, Query, Sampler, SamplerSpec, build_sampler, samplers
from widemax.samplers.cross_batch_queue import CrossBatchQueue
from widemax.samplers.learned_frequency import LearnedFrequency


@samplers.register("mixture")
class Mixture(Sampler):
    """Each part draws its share of the candidates; E[count of y] = Σ_m E[count of y in part m].

    The sum holds for every candidate, whichever part drew it, and a class that two parts drew stands twice.
    To divide by the count of the part that drew it, or by the largest count, would give it too much weight.

    The sum is exact while what one part draws does not sway what another expects. The labels in a
    "cross_batch_queue" are also those that "learned_frequency" learned from: together they are approximate.

    ``num_sampled`` is split by shares; what is left over goes to the largest remainders, and a part that gets
    nothing is left out of the draw.

    Use: where one distribution leaves something out: labels of the batch with rare classes, or easy classes
    with hard ones. Each part costs a draw of its own, so let an audit show that the mixture beats its parts;
    otherwise take the better part.

    Args:
        parts: the name of each part, its table of kind and options, its class, or a sampler.
        shares: how much of the draw each part gets, in any unit; None is the same for all. A part without a
            share is left out.

    Raises:
        ConfigError: not one share a part, a share below zero, or no part with a share.

    Example:
        >>> sampler = Mixture(Classes(100, torch.arange(100)), parts=("frequency", "uniform"), shares=(3, 1))
        >>> generator = torch.Generator().manual_seed(0)
        >>> sampler.split(6), sampler.draw(torch.tensor([3]), 6, generator=generator).class_ids
        ([5, 1], tensor([ 1, 64, 77, 82, 95, 98]))

    Source: Yang et al. 2020, "Mixed Negative Sampling for Learning Two-tower Neural Networks in
    Recommendations".
    """

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        parts: tuple[SamplerSpec, ...] = ("frequency", "uniform"),
        shares: tuple[Annotated[float, Field(ge=0)], ...] | None = None,
    ) -> None:
        super().__init__(num_classes)
        if shares is None:
            shares = (1.0,) * len(parts)
        if len(shares) != len(parts) or min(shares, default=0) < 0 or not 0 < sum(shares) < torch.inf:
            raise ConfigError(
                f"shares must hold one number of 0 or more for each of {len(parts)} parts, "
                f"and not only zeros; got {shares!r}."
            )
        chosen = [(spec, share) for spec, share in zip(parts, shares, strict=True) if share > 0]
        self.parts = [build_sampler(spec, num_classes) for spec, _ in chosen]
        self.shares = [share / sum(shares) for _, share in chosen]
        self.uses_labels = any(part.uses_labels for part in self.parts)
        self.follows_model = any(part.follows_model for part in self.parts)
        reasons = [part.approximation for part in self.parts if part.approximation]
        if {CrossBatchQueue, LearnedFrequency} <= self._kinds():
            reasons.append("what 'learned_frequency' expects depends on what 'cross_batch_queue' holds")
        self.approximation = "; ".join(dict.fromkeys(reasons)) or None

    def _kinds(self) -> set[type[Sampler]]:
        """The kinds of the parts, and of parts of parts."""
        inner = [part._kinds() for part in self.parts if isinstance(part, Mixture)]
        return {type(part) for part in self.parts}.union(*inner)

    @checked
    def split(self, num_sampled: int) -> list[int]:
        """How many draws each part gets: the sum is ``num_sampled``, by the largest remainders."""
        quotas = [num_sampled * share for share in self.shares]
        counts = [int(quota) for quota in quotas]
        by_remainder = sorted(range(len(quotas)), key=lambda part: counts[part] - quotas[part])
        for part in by_remainder[: num_sampled - sum(counts)]:
            counts[part] += 1
        return counts

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        proposals = [
            part.propose(labels, count, generator=generator, query=query)
            for part, count in zip(self.parts, self.split(num_sampled), strict=True)
            if count > 0
        ]
        return Proposal(
            torch.cat([proposal.ids_S for proposal in proposals]),
            lambda ids: torch.stack([part.log_expected_count(ids) for part in proposals]).logsumexp(0),
        )

    def state(self) -> dict[str, Tensor]:
        return {
            f"{place}.{name}": tensor
            for place, part in enumerate(self.parts)
            for name, tensor in part.state().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        for place, part in enumerate(self.parts):
            prefix = f"{place}."
            part.load_state(
                {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            )
