"""Drawing from a sampler again and again. Shapes: R draws, B rows, N candidates of all draws, C classes."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from widemax.samplers import Candidates, Query, Sampler
from widemax.testing.report import NotApplicable


@dataclass(frozen=True)
class Draws:
    """Candidates of many draws side by side: number of the draw, class id, and the stated count."""

    draw_N: Tensor
    ids_N: Tensor
    log_expected_count_N: Tensor
    own_R: Tensor  # the label of the row that looks on, a new one each draw

    def others(self) -> "Draws":
        """Without what is the row's own label: the statement is about all other classes."""
        kept_N = self.ids_N != self.own_R[self.draw_N]
        return Draws(self.draw_N[kept_N], self.ids_N[kept_N], self.log_expected_count_N[kept_N], self.own_R)


class Trial:
    """A sampler with all that is needed to draw from it again and again."""

    def __init__(
        self,
        sampler: Sampler,
        num_sampled: int,
        label_probs: Tensor | None,
        query: Query | None,
        seed: int,
        num_draws: int,
    ) -> None:
        self.sampler, self.num_sampled, self.query, self.num_draws = sampler, num_sampled, query, num_draws
        self.num_rows = 16 if query is None else len(query.hidden_BD)
        if sampler.state():
            # A memory as long as a draw holds other labels each time, so that draws stay independent.
            self.num_rows = max(self.num_rows, num_sampled)
        self.cumulative_C = None if label_probs is None else label_probs.double().cumsum(0)
        self.generator = torch.Generator().manual_seed(seed)

    def labels(self) -> Tensor:
        """Labels of a batch, drawn independently; the first is that of the row that looks on."""
        uniform_B = torch.rand(self.num_rows, dtype=torch.float64, generator=self.generator)
        if self.cumulative_C is None:
            return (uniform_B * self.sampler.num_classes).long()
        total = self.cumulative_C[-1]
        return torch.searchsorted(self.cumulative_C, uniform_B * total, right=True).clamp_(
            max=self.sampler.num_classes - 1
        )

    def state(self) -> dict[str, Tensor]:
        """What the sampler has learned so far, to go back to."""
        return {name: value.clone() for name, value in self.sampler.state().items()}

    def draw(self, labels: Tensor, generator: torch.Generator | None = None) -> Candidates:
        generator = generator or self.generator
        return self.sampler.draw(labels, self.num_sampled, generator=generator, query=self.query)

    def stated(self, ids: Tensor) -> Tensor:
        """The counts one draw states, as fixed weights: any weights will do, these give the least noise."""
        proposal = self.sampler.propose(
            self.labels(), self.num_sampled, generator=self.generator, query=self.query
        )
        return proposal.log_expected_count(ids).exp()

    @cached_property
    def draws(self) -> Draws:
        labels_RB = [self.labels() for _ in range(self.num_draws)]
        draws = [self.draw(labels) for labels in labels_RB]
        sizes_R = torch.tensor([len(draw.class_ids) for draw in draws])
        return Draws(
            torch.arange(self.num_draws).repeat_interleave(sizes_R),
            torch.cat([draw.class_ids for draw in draws]),
            torch.cat([draw.log_expected_count for draw in draws]),
            torch.stack(labels_RB)[:, 0],
        )

    @cached_property
    def weights(self) -> Tensor:
        return self.stated(torch.arange(self.sampler.num_classes))

    def require_exact(self) -> None:
        if self.sampler.approximation is not None:
            raise NotApplicable(f"its expected counts are approximate: {self.sampler.approximation}")
