"""The softmax of quantized class weights. Shapes: B rows, C classes, D hidden, K codewords, U cells."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.options import AtLeast1
from widemax.samplers.base import Query, samplers
from widemax.samplers.indexed import Index, IndexedSampler, class_rows
from widemax.samplers.replacement import Duplicates, ReplacementSampler, below, draw_places, uniform_float64

_KMEANS_ROUNDS = 10
_KMEANS_ROWS_PER_CODEWORD = 256
# A product of two shares is at least exp(−600): far below any that matters, far above underflow.
_LOWEST_LOG_SHARE = -300.0


@samplers.register("midx")
class Midx(IndexedSampler):
    """Draws from the softmax of quantized weights: an inverted multi-index.

    A row w_y is replaced by ŵ_y = c_k + c'_l, its nearest of K codewords and the nearest of K codewords to
    what is left over, both found by k-means. A class scores like all others of its cell (k, l), but for its
    bias, so with ε the uniform share

    q(y|x) = (1 − ε) · exp(x·c_k + x·c'_l + b_y) / Σ_cells W_kl · exp(x·c_k + x·c'_l) + ε / C,
    W_kl = Σ_{y in cell kl} exp(b_y).

    A batch costs O(B·K·(D + K)) and a draw two binary searches, whatever the number of classes; the index
    takes 32 bytes a class. Codewords that score more than 300 nats below a row's best count as 300 nats
    below; q states just that.

    Use: for wide heads that give most probability to few classes, where frequencies say little about which.
    Each refresh goes through all classes; where an audit shows that "frequency" is close enough, that is far
    cheaper.

    Args:
        num_codewords: K, in each of the two codebooks (at most C are used).
        uniform_share: ε, the share of draws that takes every class alike, so that none is left out.

    Raises:
        UsageError: a draw without a query.
        DataError: hidden vectors or weights that are not finite.

    Example:
        >>> rows = torch.tensor([[4.0], [0.0], [-4.0]])
        >>> query = Query(torch.tensor([[1.0]]), lambda ids: (rows[ids], torch.zeros(len(ids))))
        >>> sampler = Midx(3, duplicates="keep")
        >>> generator = torch.Generator().manual_seed(0)
        >>> _, log_expected_count = sampler.propose(torch.tensor([0]), 1, generator=generator, query=query)
        >>> log_expected_count(torch.arange(3)).exp().numpy().round(3)
        array([0.949, 0.034, 0.017])

    Source: Chen et al. 2025, "Adaptive Sampled Softmax with Inverted Multi-Index", §4 (residual
    quantization); the bias takes the place of its popularity.
    """

    name = "midx"

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        num_codewords: AtLeast1 = 64,
        uniform_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05,
        refresh_every: AtLeast1 = 500,
        duplicates: Duplicates = "drop",
    ) -> None:
        super().__init__(num_classes, refresh_every=refresh_every, duplicates=duplicates)
        self.num_codewords = num_codewords
        self.uniform_share = uniform_share

    def build_index(self, query: Query, generator: torch.Generator) -> Index:
        device = generator.device
        all_ids = torch.arange(self.num_classes, device=device)
        some_ids = all_ids
        num_rows = _KMEANS_ROWS_PER_CODEWORD * self.num_codewords
        if num_rows < self.num_classes:
            some_ids = torch.randint(self.num_classes, (num_rows,), generator=generator, device=device)
        rows_ND = torch.cat([rows for rows, _ in class_rows(query, some_ids)])
        coarse_KD = _kmeans(rows_ND, self.num_codewords, generator)
        rest_ND = rows_ND - coarse_KD[_nearest(rows_ND, coarse_KD)]
        fine_KD = _kmeans(rest_ND, self.num_codewords, generator)

        codes, biases = [], []
        for rows_nD, bias_n in class_rows(query, all_ids):
            coarse_n = _nearest(rows_nD, coarse_KD)
            fine_n = _nearest(rows_nD - coarse_KD[coarse_n], fine_KD)
            codes.append(coarse_n * len(fine_KD) + fine_n)
            biases.append(bias_n)
        code_C, bias_C = torch.cat(codes), torch.cat(biases)
        # Only cells with a class in them are kept: an empty one cannot be drawn even by rounding.
        cells_U, cell_C, sizes_U = torch.unique(code_C, return_inverse=True, return_counts=True)
        ids_by_cell_C = cell_C.argsort(stable=True)
        weights_C = (bias_C - bias_C.max()).exp()[ids_by_cell_C]
        return {
            "coarse_KD": coarse_KD,
            "fine_KD": fine_KD,
            "cells_U": cells_U,
            "ends_U": sizes_U.cumsum(0),
            "cell_C": cell_C,
            "ids_by_cell_C": ids_by_cell_C,
            "place_C": torch.empty_like(all_ids).scatter_(0, ids_by_cell_C, all_ids),
            "cumulative_C": weights_C.cumsum(0),
        }

    def of_batch(self, hidden_BD: Tensor, index: Index) -> ReplacementSampler:
        return _MidxOfBatch(self, hidden_BD, index)


class _MidxOfBatch(ReplacementSampler):
    """q̄ of one batch: log-linear in cells, so the mean over rows is one product of [B, K] shares."""

    def __init__(self, of: Midx, hidden_BD: Tensor, index: Index) -> None:
        super().__init__(of.num_classes, duplicates=of.duplicates)
        self.uniform_share = of.uniform_share
        self.index = index
        coarse_BK = _shares(hidden_BD, index["coarse_KD"])
        fine_BK = _shares(hidden_BD, index["fine_KD"])
        weights_U = below(index["cumulative_C"], index["ends_U"]).diff(prepend=hidden_BD.new_zeros(1))
        weights_KK = hidden_BD.new_zeros(coarse_BK.shape[1], fine_BK.shape[1])
        weights_KK.view(-1)[index["cells_U"]] = weights_U
        partition_B = torch.linalg.vecdot(coarse_BK @ weights_KK, fine_BK)
        per_weight_KK = (coarse_BK / (len(hidden_BD) * partition_B)[:, None]).T @ fine_BK
        self.per_weight_U = per_weight_KK.view(-1)[index["cells_U"]]
        self.cumulative_U = (self.per_weight_U * weights_U).cumsum(0)

    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        ends_U, cumulative_C = self.index["ends_U"], self.index["cumulative_C"]
        cell_S = draw_places(self.cumulative_U, num_sampled, generator)
        low_S = below(cumulative_C, ends_U[cell_S - 1].masked_fill(cell_S == 0, 0))
        high_S = below(cumulative_C, ends_U[cell_S])
        point_S = low_S + uniform_float64(num_sampled, generator) * (high_S - low_S)
        place_S = torch.searchsorted(cumulative_C, point_S, right=True)
        ids_S = self.index["ids_by_cell_C"][torch.minimum(place_S, ends_U[cell_S] - 1)]
        any_S = torch.randint(self.num_classes, (num_sampled,), generator=generator, device=generator.device)
        return torch.where(uniform_float64(num_sampled, generator) < self.uniform_share, any_S, ids_S)

    def probs(self, class_ids: Tensor) -> Tensor:
        place = self.index["place_C"][class_ids]
        # The width of the interval a class is drawn from: by construction what draw_ids does.
        weight = self.index["cumulative_C"][place] - below(self.index["cumulative_C"], place)
        probs: Tensor = weight * self.per_weight_U[self.index["cell_C"][class_ids]]
        return (1 - self.uniform_share) * probs + self.uniform_share / self.num_classes


def _shares(hidden_BD: Tensor, codewords_KD: Tensor) -> Tensor:
    """exp of the codewords' scores, of which a row's largest is 1."""
    scores_BK = hidden_BD @ codewords_KD.to(hidden_BD.dtype).T
    return (scores_BK - scores_BK.amax(1, keepdim=True)).clamp_(min=_LOWEST_LOG_SHARE).exp_()


def _kmeans(rows_ND: Tensor, num_codewords: int, generator: torch.Generator) -> Tensor:
    """[K, D] codewords by Lloyd's algorithm from random rows; one that is nearest to none stays."""
    first_K = torch.randperm(len(rows_ND), generator=generator, device=rows_ND.device)[:num_codewords]
    codewords_KD = rows_ND[first_K]
    for _ in range(_KMEANS_ROUNDS):
        # A product instead of a scatter, which on a GPU adds in no fixed order.
        member_NK = torch.nn.functional.one_hot(_nearest(rows_ND, codewords_KD), len(codewords_KD)).float()
        count_K1 = member_NK.sum(0)[:, None]
        mean_KD = member_NK.T @ rows_ND / count_K1.clamp(min=1)
        codewords_KD = torch.where(count_K1 > 0, mean_KD, codewords_KD)
    return codewords_KD


def _nearest(rows_ND: Tensor, codewords_KD: Tensor) -> Tensor:
    """[N] the codeword at the least distance from each row."""
    return (rows_ND @ codewords_KD.T - codewords_KD.square().sum(1) / 2).argmax(1)
