"""The nearest training rows, which have a part in the answers about numbers.

Shapes: B rows, N training rows, D numbers, K neighbors, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log1p
from typing import Self

import numpy as np
import torch
from torch import Tensor

from widemax.errors import CorruptError
from widemax.heads import Answers, Head, Labels
from widemax.heads.dense import answer_rows
from widemax.heads.labels import label_pairs, no_pairs
from widemax.kernels import budget
from widemax.search import ExactIndex

MOST_NUMBERS = 2**22
"""Of training rows that are kept with a model: 16 MiB."""
MOST_TREE_NUMBERS = 10
"""Of a row: a k-d tree finds neighbors sooner than a scan of the rows, and with more numbers later."""
MIN_GAIN = 0.05
"""The share of the held-out nll that must be gained for the training rows to be kept."""
PRIOR_STRENGTH = 10.0
"""How many held-out rows that the head alone has right outweigh the first signs for neighbors."""

KINDS = {
    "rows": torch.float32,
    "labels": torch.int32,
    "spread": torch.float32,
    "weight": torch.float64,
    "num_neighbors": torch.int64,
}
"""Of the tensors that are saved."""


@dataclass(frozen=True, eq=False, repr=False)
class Neighbors:
    """p(c) = (1 − w) p_head(c) + w Σ_j share_j [the j-th nearest row has class c], share_j ∝ 1/j, j ≤ K.

    A perceptron is smooth; the rows near by know the borders that it rounds off. Distances are Euclidean,
    between numbers over their spread within classes, so that what says nothing about the class counts little.
    The neighbors are exact.

    Args:
        rows: scaled numbers of the training rows, [N, D] float32.
        labels: their classes, [N] int64.
        spread: standard deviation of the numbers within classes, [D].
        weight: w in [0, 1).
        num_neighbors: K, or all rows if there are fewer.

    Example:
        >>> from widemax.heads import ExactHead
        >>> rows, labels = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([0, 0, 1])
        >>> neighbors = Neighbors(rows, labels, torch.ones(1), weight=0.5, num_neighbors=1)
        >>> head = ExactHead(2, 3)
        >>> neighbors.log_probs(head, torch.zeros(1, 3), torch.tensor([[8.0]])).exp().round(decimals=4)
        tensor([[0.2500, 0.7500]], dtype=torch.float64)

    Source: Khandelwal et al., "Generalization through memorization", ICLR 2020, equation 3.
    """

    rows: Tensor
    labels: Tensor
    spread: Tensor
    weight: float
    num_neighbors: int

    def __str__(self) -> str:
        rows = f"{self.num_neighbors} of {len(self.rows):,} rows"
        return f"the nearest {rows} have {self.weight:.0%} of each answer"

    @classmethod
    def fit(
        cls,
        rows_ND: Tensor,
        labels_N: Tensor,
        held_out_BD: Tensor,
        labels_B: Tensor,
        label_log_probs_B: Tensor,
        *,
        most: int,
    ) -> Self | None:
        """The w and K ≤ ``most``, a power of two, with the least nll of held-out rows; None for no real gain.

        B · nll(w) − λ log(1 − w) is minimized, so that few rows give the neighbors little weight.

        Args:
            label_log_probs_B: what the head alone says of the held-out labels.
        """
        from scipy.optimize import minimize_scalar

        found = cls(rows_ND, labels_N, spread_within(rows_ND, labels_N), 0.0, most)
        right_BK = (found.classes(held_out_BD) == labels_B[:, None]).double()
        before = best = -float(label_log_probs_B.double().mean())

        def nll_with(votes_B: Tensor) -> Callable[[float], float]:
            def nll(weight: float) -> float:
                prior = PRIOR_STRENGTH / len(labels_B) * log1p(-weight)
                return -float(mixed(label_log_probs_B, votes_B, weight).mean()) - prior

            return nll

        for power in range(right_BK.shape[1].bit_length()):
            votes_B = right_BK[:, : 1 << power] @ shares(1 << power)
            optimum = minimize_scalar(nll_with(votes_B), bounds=(0, 1), method="bounded")
            if optimum.fun < best:
                best = optimum.fun
                found = cls(rows_ND, labels_N, found.spread, float(optimum.x), 1 << power)
        return found if best < (1 - MIN_GAIN) * before else None

    @cached_property
    def _nearest(self) -> Callable[[Tensor, int], Tensor]:
        """Numbers over their spread [B, D] and K to the places of the nearest rows [B, K]."""
        rows_ND = (self.rows / self.spread).numpy()
        if rows_ND.shape[1] > MOST_TREE_NUMBERS:
            index = ExactIndex(rows_ND, metric="euclidean")
            return lambda numbers_BD, k: index.topk(numbers_BD, k).ids
        from scipy.spatial import cKDTree

        tree = cKDTree(rows_ND)
        return lambda numbers_BD, k: torch.from_numpy(tree.query(numbers_BD.numpy(), np.arange(k) + 1)[1])

    def classes(self, numbers_BD: Tensor) -> Tensor:
        """The classes of the nearest rows, nearest first, [B, K]."""
        return self.labels[self._nearest(numbers_BD / self.spread, min(self.num_neighbors, len(self.rows)))]

    @torch.no_grad()
    def log_probs(self, head: Head, hidden_BD: Tensor, numbers_BD: Tensor) -> Tensor:
        """Log-probabilities of all classes, [B, C] in float64, where the numbers are."""
        classes_BK = self.classes(numbers_BD)
        every = torch.arange(head.num_classes, device=hidden_BD.device)
        log_probs_BC = head.log_probs(hidden_BD, every).to(numbers_BD.device, torch.float64)
        shares_BK = shares(classes_BK.shape[1]).expand(classes_BK.shape)
        votes_BC = torch.zeros_like(log_probs_BC).scatter_add_(1, classes_BK, shares_BK)
        return mixed(log_probs_BC, votes_BC, self.weight)

    def answer(self, head: Head, hidden: Tensor, numbers: Tensor, labels: Labels, *, k: int) -> Answers:
        """What the head answers about rows and labels, over all classes, with the part of the neighbors."""
        return answer_rows(
            lambda places: self.log_probs(head, hidden[places.to(hidden.device)], numbers[places]),
            torch.arange(len(hidden)),
            label_pairs(labels, numbers),
            no_pairs(numbers.device),
            k=min(k, head.num_classes),
            rows_at_once=max(1, budget.HELD_ELEMENTS // head.num_classes),
        )

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors, for a file."""
        return {
            "rows": self.rows,
            "labels": self.labels.int(),
            "spread": self.spread,
            "weight": torch.tensor(self.weight, dtype=torch.float64),
            "num_neighbors": torch.tensor(min(self.num_neighbors, len(self.rows))),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], *, num_classes: int) -> Self:
        """The inverse of :meth:`state`.

        Raises:
            CorruptError: tensors are missing, or do not belong together.
        """
        kinds = {name: tensor.dtype for name, tensor in state.items()}
        if fits := kinds == KINDS and state["weight"].ndim == state["num_neighbors"].ndim == 0:
            rows, labels, spread = state["rows"], state["labels"].long(), state["spread"]
            weight, num_neighbors = float(state["weight"]), int(state["num_neighbors"])
            fits = rows.shape == (len(labels), len(spread)) and bool((spread > 0).all())
            fits = fits and 0 <= weight < 1 <= num_neighbors <= len(labels)
            fits = fits and 0 <= int(labels.min()) <= int(labels.max()) < num_classes
        if not fits:
            raise CorruptError("the neighbors of the model do not belong together; restore it from a copy.")
        return cls(rows, labels, spread, weight, num_neighbors)


def mixed(log_probs: Tensor, votes: Tensor, weight: float) -> Tensor:
    """log((1 − w) exp(log_probs) + w · votes), finite where log_probs are."""
    return torch.logaddexp(log_probs + log1p(-weight), (weight * votes).log())


def shares(k: int) -> Tensor:
    """What each of k neighbors says, nearest first.

    Example:
        >>> shares(2)
        tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    weights_K = 1 / torch.arange(1, k + 1, dtype=torch.float64)
    return weights_K / weights_K.sum()


def spread_within(rows_ND: Tensor, labels_N: Tensor) -> Tensor:
    """Standard deviation of each column around the means of the classes, [D]; 1 where it is 0.

    Example:
        >>> spread_within(torch.tensor([[1.0, 5.0], [3.0, 5.0], [9.0, 5.0]]), torch.tensor([0, 0, 1]))
        tensor([0.8165, 1.0000])
    """
    counts_C = labels_N.bincount()
    sums_CD = torch.zeros(len(counts_C), rows_ND.shape[1], dtype=torch.float64)
    sums_CD.index_add_(0, labels_N, rows_ND.double())
    means_CD = sums_CD / counts_C.clamp(min=1)[:, None]
    spread_D = (rows_ND - means_CD[labels_N]).square().mean(0).sqrt().float()
    return torch.where(spread_D > 0, spread_D, 1.0)
