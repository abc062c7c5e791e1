"""Classes by their squared logits. Shapes: B rows, C classes, E hidden and a one, N ids."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.options import AtLeast1
from widemax.samplers.base import Query, samplers
from widemax.samplers.indexed import CLASSES_AT_ONCE, Index, IndexedSampler, class_rows
from widemax.samplers.replacement import Duplicates, ReplacementSampler, below, draw_places, uniform_float64

# Directions in which the weights extend less than this (squared, relative to the widest) are not stretched.
_FLATTEST = 1e-12
# Room for rounding in the bound of a score, which must not be exceeded.
_SLACK = 1 + 1e-6


@samplers.register("quadratic_kernel")
class QuadraticKernel(IndexedSampler):
    """Draws class y with probability q(y|x) = (α·s_y² + 1) / Σ_i (α·s_i² + 1), where s_y is its logit.

    The square makes the sum over all classes a form in the hidden vector x alone (with a one appended, for
    the bias): Σ_i s_i² = xᵀMx with M = Σ_i w_i w_iᵀ. The mean over a batch is a form in the weights alone:

    q̄(y) = w_yᵀ F w_y + f,  F = (1/B) Σ_b α x_b x_bᵀ / Z_b,  f = (1/B) Σ_b 1 / Z_b,  Z_b = α x_bᵀMx_b + C.

    Draws are exact, by rejection: propose y with probability ∝ λ·‖w_y‖² + f, λ ≥ the largest eigenvalue of
    F, and accept it with probability q̄(y) / (λ·‖w_y‖² + f). In coordinates in which M is the identity,
    Σ_i ‖w_i‖² = E and λ ≤ 1, so a draw takes at most E + 1 proposals in the mean, whatever the weights are.

    A batch costs O(B·E²) and a proposal O(E²), whatever the number of classes; where a draw would need as
    many proposals as there are classes, all probabilities are computed instead. The index holds a float32
    copy of the weights.

    Use: for short hidden vectors, as a proposal costs O(D²), where candidates should follow the model. Large
    negative logits are drawn as often as large positive ones; "midx" follows the softmax itself, and
    "frequency" is far cheaper.

    Args:
        alpha: α, how much squared logits count beside the uniform part; 0 is uniform.

    Raises:
        UsageError: a draw without a query.
        DataError: hidden vectors or weights that are not finite.

    Example:
        >>> rows = torch.tensor([[3.0], [1.0], [0.0]])
        >>> query = Query(torch.tensor([[1.0]]), lambda ids: (rows[ids], torch.zeros(len(ids))))
        >>> sampler = QuadraticKernel(3, duplicates="keep")
        >>> generator = torch.Generator().manual_seed(0)
        >>> _, log_expected_count = sampler.propose(torch.tensor([0]), 1, generator=generator, query=query)
        >>> log_expected_count(torch.arange(3)).exp().numpy().round(3)
        array([0.769, 0.154, 0.077])

    Source: Blanc, Rendle 2018, "Adaptive Sampled Softmax with Kernel Based Sampling", §3 (α = 100); by
    rejection instead of a tree.
    """

    name = "quadratic_kernel"

    waits = frozenset({"unique", "select", "read"})

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        alpha: Annotated[float, Field(ge=0.0)] = 1.0,
        refresh_every: AtLeast1 = 500,
        duplicates: Duplicates = "drop",
    ) -> None:
        super().__init__(num_classes, refresh_every=refresh_every, duplicates=duplicates)
        self.alpha = alpha

    def build_index(self, query: Query, generator: torch.Generator) -> Index:
        ids_C = torch.arange(self.num_classes, device=generator.device)
        rows_CE = torch.cat(
            [torch.cat([rows, bias[:, None].float()], 1) for rows, bias in class_rows(query, ids_C)]
        )
        extent_E, basis_EE = torch.linalg.eigh(_gram(rows_CE))
        tiny = torch.finfo(torch.float64).tiny
        stretch_E = extent_E.clamp(min=max(tiny, _FLATTEST * float(extent_E[-1]))).sqrt()
        whiten_EE = basis_EE / stretch_E
        parts = torch.split(rows_CE, CLASSES_AT_ONCE)
        white_CE = torch.cat([(rows.double() @ whiten_EE).float() for rows in parts])
        lengths = [rows.double().square().sum(1) for rows in torch.split(white_CE, CLASSES_AT_ONCE)]
        return {
            "rows_CE": white_CE,
            "coordinates_EE": (basis_EE * stretch_E).contiguous(),
            "gram_EE": _gram(white_CE),
            "cumulative_C": torch.cat(lengths).cumsum(0),
        }

    def of_batch(self, hidden_BD: Tensor, index: Index) -> ReplacementSampler:
        return _QuadraticOfBatch(self, hidden_BD, index)


class _QuadraticOfBatch(ReplacementSampler):
    """q̄ of one batch: a form and a floor."""

    def __init__(self, of: QuadraticKernel, hidden_BD: Tensor, index: Index) -> None:
        super().__init__(of.num_classes, duplicates=of.duplicates)
        self.rows_CE, self.cumulative_C = index["rows_CE"], index["cumulative_C"]
        hidden_BE = torch.nn.functional.pad(hidden_BD, (0, 1), value=1.0) @ index["coordinates_EE"]
        partition_B = of.alpha * torch.linalg.vecdot(hidden_BE @ index["gram_EE"], hidden_BE) + of.num_classes
        share_B = 1 / (len(hidden_BE) * partition_B)
        self.floor = share_B.sum()
        self.form_EE = of.alpha * (hidden_BE * share_B[:, None]).T @ hidden_BE
        # (Σ λ⁸)^⅛ over eigenvalues is hardly above the largest, and needs no decomposition.
        self.bound = _SLACK * torch.linalg.matrix_power(self.form_EE, 4).norm().pow(0.25)
        self.tries_per_draw = self.bound * self.cumulative_C[-1] + of.num_classes * self.floor
        self.probs_C: Tensor | None = None

    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        if num_sampled * float(self.tries_per_draw) >= self.num_classes:
            return self.draw_from_all(num_sampled, generator)
        return self.draw_by_rejection(num_sampled, generator)

    def draw_by_rejection(self, num_sampled: int, generator: torch.Generator) -> Tensor:
        tries_per_draw = float(self.tries_per_draw)
        accepted, missing = [], num_sampled
        while missing > 0:
            count = min(math.ceil(missing * tries_per_draw), CLASSES_AT_ONCE)
            ids_N = self._propose_ids(count, generator)
            height_N = uniform_float64(count, generator) * self.ceiling(ids_N)
            accepted.append(ids_N[height_N < self.probs(ids_N)])
            missing -= len(accepted[-1])
        return torch.cat(accepted)[:num_sampled]

    def draw_from_all(self, num_sampled: int, generator: torch.Generator) -> Tensor:
        """By the probabilities of all classes, which from here on are kept."""
        if self.probs_C is None:
            form_EE = self.form_EE.float()
            parts = torch.split(self.rows_CE, CLASSES_AT_ONCE)
            squares_C = torch.cat([torch.linalg.vecdot(rows_NE @ form_EE, rows_NE) for rows_NE in parts])
            weights_C = squares_C.clamp_(min=0).double().add_(self.floor)
            self.probs_C = weights_C / weights_C.sum()
        return draw_places(self.probs_C.cumsum(0), num_sampled, generator)

    def _propose_ids(self, count: int, generator: torch.Generator) -> Tensor:
        """Classes with probability ∝ their ceiling: by length, or else any class alike."""
        ids_N = draw_places(self.cumulative_C, count, generator)
        any_N = torch.randint(self.num_classes, (count,), generator=generator, device=generator.device)
        by_length = self.bound * self.cumulative_C[-1] / self.tries_per_draw
        return torch.where(uniform_float64(count, generator) < by_length, ids_N, any_N)

    def ceiling(self, class_ids: Tensor) -> Tensor:
        """λ·‖w_y‖² + f of each class, which its probability does not exceed."""
        # The width of the interval a class is proposed from: by construction what was just done.
        width = self.cumulative_C[class_ids] - below(self.cumulative_C, class_ids)
        return width.mul_(self.bound).add_(self.floor)

    def probs(self, class_ids: Tensor) -> Tensor:
        if self.probs_C is not None:
            return self.probs_C[class_ids]
        squares = []
        for ids_N in torch.split(class_ids.reshape(-1), CLASSES_AT_ONCE):
            rows_NE = self.rows_CE[ids_N].double()
            squares.append(torch.linalg.vecdot(rows_NE @ self.form_EE, rows_NE))
        return torch.cat(squares).reshape(class_ids.shape).add_(self.floor)


def _gram(rows_CE: Tensor) -> Tensor:
    """[E, E] Σ w wᵀ in float64."""
    total_EE = rows_CE.new_zeros(rows_CE.shape[1], rows_CE.shape[1], dtype=torch.float64)
    for rows_NE in torch.split(rows_CE, CLASSES_AT_ONCE):
        rows = rows_NE.double()
        total_EE += rows.T @ rows
    return total_EE
