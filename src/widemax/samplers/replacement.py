"""Samplers that draw one class at a time, each draw like the one before. Shapes: S sampled, C classes."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.numerics.order import distinct
from widemax.samplers.base import Proposal, Query, Sampler

Duplicates = Literal["drop", "keep", "redraw"]

# Among this many classes a distinct candidate, first arrivals are computed for all classes at once.
_DENSE_RATIO = 16
# Of so many times those wanted, one in so many is looked at to bound the earliest.
_MANY, _LOOKED_AT = 8, 32


class ReplacementSampler(Sampler):
    """Independent draws from q, with one of three rules for a class that is drawn again.

    ============  ==============================================  =================================
    duplicates    candidates of n draws                           expected count of y
    ============  ==============================================  =================================
    ``"keep"``    n, a class may stand several times              n·q(y)
    ``"drop"``    the distinct ones, at most n                    1 − (1 − q(y))^n
    ``"redraw"``  n distinct ones (all classes, if there are      1 − exp(−q(y)·τ)
                  fewer)
    ============  ==============================================  =================================

    For ``"redraw"``, draws arrive at unit rate until n + 1 distinct classes have been seen; the last of them
    is left out, and τ is the time at which it came (for a label that was not drawn: the time of the one
    before). Given everything but y, the class y is a candidate exactly if its first arrival, an
    exponential variable of rate q(y), precedes τ; so E[1{y drawn} / expected count] = 1 without the
    approximation that a fixed number of tries would need.

    Args:
        duplicates: what happens to a class drawn several times.

    Source: Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine Translation", §3;
    Duffield, Lund, Thorup 2007, "Priority sampling for estimation of arbitrary subset sums".
    """

    def __init__(self, num_classes: int | Classes, *, duplicates: Duplicates = "drop") -> None:
        super().__init__(num_classes)
        self.duplicates = duplicates

    @abstractmethod
    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        """[S] independent draws from q, in any order, on the generator's device."""

    @abstractmethod
    def probs(self, class_ids: Tensor) -> Tensor:
        """float64 q(y) of each class: the probability that a single draw gives it."""

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        if self.duplicates == "redraw":
            return self._distinct(num_sampled, generator)
        ids_S = self.draw_ids(num_sampled, generator=generator)
        if self.duplicates == "keep":
            return Proposal(ids_S, lambda ids: math.log(num_sampled) + self.probs(ids).log())
        return Proposal(
            torch.unique(ids_S), lambda ids: log_at_least_once(-num_sampled * torch.log1p(-self.probs(ids)))
        )

    def _distinct(self, num_sampled: int, generator: torch.Generator) -> Proposal:
        if num_sampled >= self.num_classes:
            all_ids = torch.arange(self.num_classes, device=generator.device)
            return Proposal(all_ids, lambda ids: torch.zeros_like(ids, dtype=torch.float64))
        ids_N, times_N = self._first_arrivals(num_sampled + 1, generator)
        times, places = earliest(times_N, num_sampled + 1)
        latest, order = times.topk(2)
        is_drawn_N = torch.zeros(len(ids_N), dtype=torch.bool, device=ids_N.device)
        is_drawn_N[places] = True
        is_drawn_N[places[order[0]]] = False
        drawn_S = ids_N[is_drawn_N]

        def log_expected_count(ids: Tensor) -> Tensor:
            if ids is drawn_S:
                return log_at_least_once(self.probs(ids) * latest[0])
            place = torch.searchsorted(drawn_S, ids).clamp_(max=num_sampled - 1)
            limit = torch.where(drawn_S[place] == ids, latest[0], latest[1])
            return log_at_least_once(self.probs(ids) * limit)

        return Proposal(drawn_S, log_expected_count)

    def _first_arrivals(self, num_distinct: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """At least ``num_distinct`` classes, ascending, and when each first came; the earliest are there."""
        device = generator.device
        if num_distinct * _DENSE_RATIO > self.num_classes:
            ids_C = torch.arange(self.num_classes, device=device)
            return ids_C, waiting_times(self.num_classes, generator).div_(self.probs(ids_C))
        seen_N = torch.empty(0, dtype=torch.int64, device=device)
        first_N = torch.empty(0, dtype=torch.float64, device=device)
        now = torch.zeros((), dtype=torch.float64, device=device)
        while len(seen_N) < num_distinct:
            ids_S = self.draw_ids(2 * num_distinct, generator=generator)
            times_S = now + waiting_times(len(ids_S), generator).cumsum(0)
            now = times_S[-1]
            # A class first came where it first stands: those seen before are earlier, then times ascend.
            seen_N, place_N, _ = distinct(torch.cat([seen_N, ids_S]))
            first_N = torch.cat([first_N, times_S])[place_N]
        return seen_N, first_N


def log_at_least_once(rate: Tensor) -> Tensor:
    """log(1 − exp(−rate)): how probable an event of this expected number is at all, in nats."""
    return torch.log(-torch.expm1(-rate))


def waiting_times(count: int, generator: torch.Generator) -> Tensor:
    """Exponential variables of rate 1; ``Tensor.exponential_`` takes three times as long."""
    return uniform_float64(count, generator).neg_().log1p_().neg_()


def earliest(times: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest times and their places, in any order, as ``topk`` gives them.

    Where there are many more, a limit from some of them leaves few to be looked at.
    """
    if len(times) > _MANY * count:
        few = times[::_LOOKED_AT]
        rank = min(count // _LOOKED_AT * 5 // 4 + _LOOKED_AT, len(few))
        candidates = (times <= few.kthvalue(rank).values).nonzero().squeeze(1)
        if len(candidates) >= count:
            smallest, places = times[candidates].topk(count, largest=False, sorted=False)
            return smallest, candidates[places]
    return times.topk(count, largest=False, sorted=False)


def draw_places(cumulative_C: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """[S] places drawn by weight, from the running sum of the weights."""
    point_S = uniform_float64(count, generator) * cumulative_C[-1]
    # Rounding can lift the largest draw to the total itself.
    return torch.searchsorted(cumulative_C, point_S, right=True).clamp_(max=len(cumulative_C) - 1)


def below(cumulative_C: Tensor, places: Tensor) -> Tensor:
    """The running sum before each place, so that the width of the interval it is drawn from is exact."""
    return cumulative_C[(places - 1).clamp(min=0)].masked_fill(places == 0, 0.0)


def uniform_float64(count: int, generator: torch.Generator) -> Tensor:
    """Numbers from [0, 1) fine enough to tell more than 2^24 classes apart."""
    return torch.rand(count, dtype=torch.float64, generator=generator, device=generator.device)
