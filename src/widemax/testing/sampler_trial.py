"""Drawing from a sampler again and again. Shapes: R draws, B rows, N candidates of all draws, C classes."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from widemax.samplers import Candidates, Query, Sampler
from widemax.samplers.replacement import draw_places, uniform_float64
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


@dataclass(eq=False)
class Trial:
    """A sampler with all that is needed to draw from it again and again."""

    sampler: Sampler
    num_sampled: int
    num_draws: int
    cumulative_C: Tensor | None  # of the probabilities of labels; without, all are alike
    query: Query | None
    generator: torch.Generator

    def __post_init__(self) -> None:
        self.num_rows = 16 if self.query is None else len(self.query.hidden_BD)
        if self.sampler.state():
            # A memory as long as a draw holds other labels each time, so that draws stay independent.
            self.num_rows = max(self.num_rows, self.num_sampled)

    def labels(self) -> Tensor:
        """Labels of a batch, drawn independently; the first is that of the row that looks on."""
        if self.cumulative_C is None:
            return (uniform_float64(self.num_rows, self.generator) * self.sampler.num_classes).long()
        return draw_places(self.cumulative_C, self.num_rows, self.generator)

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
