"""The hardest classes of a larger pool. Shapes: B rows, N pool, S sampled, K hard."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.options import AtLeast1
from widemax.samplers.base import Proposal, Query, Sampler, SamplerSpec, build_sampler, needed, samplers

# Logits formed at once while the pool is scored.
_LOGITS_AT_ONCE = 2**22


@samplers.register("hard_negatives")
class HardNegatives(Sampler):
    """Draws a pool, keeps its classes of the largest logits for certain and a random part of the others.

    A pool of f·n draws is scored with the largest logit that a row of the batch gives a class. Of its N
    distinct classes the k = ⌊h·n⌋ highest are kept (of equal ones, the lower ids), and of the N − k others
    n − k uniformly at random. With E₀ the expected count in the pool and m how often the pool holds y,

    expected count of y = E₀(y) / m · (1 if y is among the k highest, else (n − k) / (N − k)).

    Given the pool, the last factor is just the probability that y is kept, so E[1{y drawn} / expected count]
    = E[m / E₀(y)] = 1: two-phase sampling is exact although expected counts depend on the draw. A label
    outside the pool counts as kept for certain if it scores above the k-th highest.

    With ``hard_share`` = 1 the others are never drawn. No expected count can be right then, and E₀ is stated
    (``approximation`` says so): the loss is biased toward hard classes, as top-k mining of sampled negatives
    always is.

    Use: late in training, when most candidates have become easy. It costs ``pool_factor`` times the logits
    and finds only what its pool holds; "midx" and "quadratic_kernel" reach the hard classes among all.

    Args:
        of: the sampler of the pool: its name, its table of kind and options, its class, or itself.
        pool_factor: f, draws of the pool for each draw asked for; scoring them costs f times the logits.
        hard_share: h, the share of draws that goes to the highest scores.

    Raises:
        UsageError: a draw without a query.

    Example:
        >>> rows = torch.arange(100.0)[:, None]
        >>> query = Query(torch.ones(1, 1), lambda ids: (rows[ids], torch.zeros(len(ids))))
        >>> generator = torch.Generator().manual_seed(0)
        >>> HardNegatives(100).draw(torch.tensor([3]), 4, generator=generator, query=query).class_ids
        tensor([66, 78, 97, 99])

    Source: Neyman 1938, "Contribution to the theory of sampling human populations" (two-phase sampling);
    Horvitz, Thompson 1952, "A generalization of sampling without replacement from a finite universe".
    """

    follows_model = True

    waits = frozenset({"unique", "select", "read"})

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        of: SamplerSpec = "uniform",
        pool_factor: AtLeast1 = 4,
        hard_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5,
    ) -> None:
        super().__init__(num_classes)
        self.pool = build_sampler(of, num_classes)
        self.pool_factor = pool_factor
        self.hard_share = hard_share
        self.uses_labels = self.pool.uses_labels
        self.approximation = self.pool.approximation
        if hard_share == 1:
            self.approximation = "top-k of a pool: a class below the cut is never drawn"

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        asked = needed(query, "hard_negatives")
        drawn, log_pool_count = self.pool.propose(
            labels, self.pool_factor * num_sampled, generator=generator, query=query
        )
        if len(drawn) == 0:
            return Proposal(drawn, log_pool_count)
        pool_N, times_N = torch.unique(drawn, return_counts=True)
        scores_N = _largest_logits(asked, pool_N)
        # A stable sort of ascending ids: equal scores stand by id.
        order_N = scores_N.argsort(descending=True, stable=True)
        num_hard = int(self.hard_share * num_sampled)
        hard_K, others = order_N[:num_hard], order_N[num_hard:]
        num_kept = min(num_sampled - num_hard, len(others))
        kept = others[torch.randperm(len(others), generator=generator, device=others.device)[:num_kept]]
        log_chance = math.log(num_kept / len(others)) if num_kept else 0.0
        log_chance_N = torch.full_like(times_N, log_chance, dtype=torch.float64).index_fill_(0, hard_K, 0.0)

        def log_expected_count(ids: Tensor) -> Tensor:
            place = torch.searchsorted(pool_N, ids).clamp_(max=len(pool_N) - 1)
            log_factor: Tensor = log_chance_N[place] - times_N[place].double().log()
            outside = pool_N[place] != ids
            log_factor[outside] = log_chance
            if num_hard > 0:
                outside_ids, scores = ids[outside], _largest_logits(asked, ids[outside])
                last = hard_K[-1]
                ties = (scores == scores_N[last]) & (outside_ids < pool_N[last])
                log_factor[outside] = log_factor[outside].masked_fill((scores > scores_N[last]) | ties, 0.0)
            log_factor += log_pool_count(ids)
            return log_factor

        return Proposal(pool_N[torch.cat([hard_K, kept])], log_expected_count)

    def state(self) -> dict[str, Tensor]:
        return self.pool.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.pool.load_state(state)


def _largest_logits(query: Query, ids_N: Tensor) -> Tensor:
    """[N] each class's largest logit over the rows of the batch, on the device of the ids."""
    hidden_BD = query.hidden_BD.detach()
    largest = []
    for ids_n in torch.split(ids_N, max(1, _LOGITS_AT_ONCE // len(hidden_BD))):
        rows_nD, bias_n = query.rows(ids_n)
        largest.append((hidden_BD @ rows_nD.detach().T).amax(0) + bias_n.detach())
    return torch.cat(largest).to(ids_N.device)
