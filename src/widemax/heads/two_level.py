"""A softmax over clusters of classes and one over the classes of a cluster, for heads of any size.

Shapes: B rows, b rows of one chunk, C classes, D hidden, G clusters, S classes of a cluster, K kept,
P labels, U classes of the clusters touched, T clusters touched, A rows still searched.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.heads.base import Dim, heads
from widemax.heads.dense import best_by_id
from widemax.heads.normalized import (
    NormalizedHead,
    Search,
    Searched,
    SoftmaxLoss,
    Temperature,
    law_of_places,
)
from widemax.kernels import Pairs, gather_rows, not_traced, topk_by_id
from widemax.numerics.arrays import widened_tensor
from widemax.options import AtLeast1

# A search that has opened this part of all clusters is slower than one product with all classes.
SEARCHED_PART = 1 / 4

Rows = tuple[Tensor, Tensor | None]
"""Weight [S, D] and bias [S] of a cluster's classes."""


@final
@heads.register("two_level")
class TwoLevelHead(NormalizedHead):
    """P(c | h) = softmax(h Vᵀ + v)_g · softmax(h W_gᵀ + bias_g)_c for the cluster g of class c.

    With √C clusters a label costs O(√C · D): all clusters, and the S weight rows of its own, which lie side
    by side and receive sparse gradients. No step touches other rows, so that the weight may exceed 2^31
    numbers. It starts at zero, in memory that the system hands out when a row is first used; the clusters'
    weights start normal with variance 1/D. Biases start where they alone predict the frequencies of the
    classes, if these are given.

    Use: for the widest heads, tens of millions of classes, where one pass over all weights is too long: a
    label costs O(√C), with exact probabilities and no sampling. A class competes with its own cluster only,
    so where "exact" or "sampled" is affordable that is usually more accurate.

    Args:
        num_clusters: G, or "auto" for √C; the last may be smaller than the others.
        order: classes side by side share a cluster: by "frequency" (by id without counts), or by "id".
        bias: whether clusters and classes have biases.
        sparse: whether the classes' weight and bias receive sparse gradients. Dense ones take any optimizer,
            gradient clipping and distributed training, and the memory of another weight.

    Source: Goodman 2001, "Classes for Fast Maximum Entropy Training".

    Example:
        >>> head = TwoLevelHead(1_000_000, 8)
        >>> head(torch.ones(2, 8), torch.tensor([3, 999_999])).backward()
        >>> head.weight.grad._nnz()
        2000
    """

    class_of_place: Tensor
    place_of_class: Tensor

    waits = frozenset({"unique", "select", "read"})

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        loss: SoftmaxLoss = "cross_entropy",
        num_clusters: AtLeast1 | Literal["auto"] = "auto",
        order: Literal["frequency", "id"] = "frequency",
        bias: bool = True,
        sparse: bool = True,
    ) -> None:
        classes = Classes.of(num_classes)
        num_classes, counts = classes.num, classes.counts
        wanted = math.isqrt(num_classes) if num_clusters == "auto" else num_clusters
        size = -(-num_classes // wanted)
        super().__init__(num_classes, dim, loss=loss, classes_per_label=size)
        self.cluster_size = size
        self.sparse = sparse
        class_of_place_C = place_of_class_C = torch.arange(num_classes, device="cpu")
        if counts is not None and order == "frequency":
            rank_C = counts.cpu().argsort(descending=True, stable=True).argsort()
            # Within a cluster by class id, so that equal classes stand in the order they are ranked in.
            class_of_place_C = (rank_C // size).argsort(stable=True)
            place_of_class_C = class_of_place_C.argsort()
        self.register_buffer("class_of_place", class_of_place_C)
        self.register_buffer("place_of_class", place_of_class_C.clone())
        self.weight = nn.Parameter(_untouched_zeros(num_classes, dim))
        self.bias = nn.Parameter(_untouched_zeros(num_classes)) if bias else None
        starts = range(0, num_classes, size)
        self.cluster_weight = self.normal(len(starts), dim)
        self.cluster_bias = nn.Parameter(torch.zeros(len(starts))) if bias else None
        if self.bias is not None and self.cluster_bias is not None and counts is not None:
            masses = torch.split((counts.cpu().double() + 1)[class_of_place_C], size)
            with torch.no_grad():
                self.bias.copy_(torch.cat([(mass / mass.sum()).log() for mass in masses]))
                mass_G = torch.stack([mass.sum() for mass in masses])
                self.cluster_bias.copy_((mass_G / mass_G.sum()).log())

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield from super().laws()
        yield law_of_places(self.place_of_class, self.place_of_class // self.cluster_size)
        yield torch.equal(self.class_of_place, self.place_of_class.argsort()), "a class for each place"

    @not_traced
    def label_log_probs(self, hidden: Tensor, pairs: Pairs, temperature: Temperature) -> Tensor:
        place_P = self.place_of_class[pairs.ids_P]
        cluster_P = place_P // self.cluster_size
        order_P = cluster_P.argsort(stable=True)
        logits_PS = self._logits(hidden[pairs.rows_P[order_P]], cluster_P[order_P], temperature)
        label_P1 = (place_P % self.cluster_size)[order_P, None]
        within_P = logits_PS.log_softmax(1).gather(1, label_P1).squeeze(1)
        log_probs_P = self._cluster_log_probs(hidden, temperature)[pairs.rows_P, cluster_P]
        return log_probs_P.index_add(0, order_P, within_P)

    def all_log_probs(self, hidden: Tensor, temperature: Temperature) -> Tensor:
        clusters_bG = self._cluster_log_probs(hidden, temperature)
        num_padded = clusters_bG.shape[1] * self.cluster_size - self.num_classes
        bias_C = None if self.bias is None else self.bias / temperature
        logits_bC = widened_tensor(nn.functional.linear(hidden / temperature, self.weight, bias_C))
        padded = nn.functional.pad(logits_bC, (0, num_padded), value=-torch.inf)
        logits_bGS = padded.view(*clusters_bG.shape, self.cluster_size)
        by_place = (logits_bGS.log_softmax(2) + clusters_bG[..., None]).flatten(1)
        return by_place.index_select(1, self.place_of_class)

    def searcher(self, k: int) -> Search | None:
        limit = int(SEARCHED_PART * len(self.cluster_weight))
        return partial(self.search, k=k, limit=limit) if 0 < k <= limit * self.cluster_size else None

    @torch.no_grad()
    def search(self, hidden: Tensor, excluded: Pairs, *, k: int, limit: int) -> Searched:
        """Top k by opening clusters, the most probable first, as no class is more probable than its cluster.

        A row ends when the next cluster does not reach its k-th best class; one that equals it is opened,
        since it may hold an equal class of smaller id.
        A row is given up after ``limit`` clusters.
        """
        temperature = self.calibration_temperature
        bounds_BG, clusters_BG = self._cluster_log_probs(hidden, temperature).sort(
            descending=True, stable=True
        )
        num_clusters = clusters_BG.shape[1]
        excluded_keys = excluded.rows_P * self.num_classes + excluded.ids_P
        found = Searched.nothing(bounds_BG, k, self.num_classes)
        rows_A = torch.arange(len(hidden), device=hidden.device)
        for step in range(min(limit, num_clusters)):
            cluster_A, order_A = clusters_BG[rows_A, step].sort(stable=True)
            rows_A = rows_A[order_A]
            logits_AS = self._logits(hidden[rows_A], cluster_A, temperature)
            log_probs_AS = logits_AS.log_softmax(1) + bounds_BG[rows_A, step, None]
            ids_AS = self._class_ids(cluster_A)
            keys_AS = rows_A[:, None] * self.num_classes + ids_AS
            log_probs_AS = log_probs_AS.masked_fill(torch.isin(keys_AS, excluded_keys), -torch.inf)
            # Places ascend with class ids within a cluster.
            log_probs_AK, places_AK = topk_by_id(log_probs_AS, min(k, self.cluster_size))
            found.log_probs[rows_A], found.class_ids[rows_A] = best_by_id(
                torch.cat([found.log_probs[rows_A], log_probs_AK], 1),
                torch.cat([found.class_ids[rows_A], ids_AS.gather(1, places_AK)], 1),
                k,
            )
            found.num_expanded_B[rows_A] += 1
            if step + 1 < num_clusters:
                goes_on_A = bounds_BG[rows_A, step + 1] >= found.log_probs[rows_A, -1]
                found.is_proven_B[rows_A] = ~goes_on_A
                rows_A = rows_A[goes_on_A]
            else:
                found.is_proven_B[rows_A] = True
            if not len(rows_A):
                break
        return found

    def _cluster_log_probs(self, hidden_BD: Tensor, temperature: Temperature) -> Tensor:
        logits_BG = nn.functional.linear(hidden_BD, self.cluster_weight, self.cluster_bias) / temperature
        return widened_tensor(logits_BG).log_softmax(1)

    def _class_ids(self, cluster_A: Tensor) -> Tensor:
        """[A, S] the classes of clusters, ascending; C where the last cluster has ended."""
        places_AS = self._places(cluster_A)
        ids_AS = self.class_of_place[places_AS.clamp(max=self.num_classes - 1)]
        return ids_AS.masked_fill(places_AS >= self.num_classes, self.num_classes)

    def _places(self, cluster_A: Tensor) -> Tensor:
        """[A, S] the places of clusters; C and more where the last has ended."""
        return cluster_A[:, None] * self.cluster_size + torch.arange(
            self.cluster_size, device=cluster_A.device
        )

    def _logits(self, hidden_PD: Tensor, cluster_P: Tensor, temperature: Temperature) -> Tensor:
        """[P, S] logits within each row's own cluster, clusters ascending; −inf where the last has ended."""
        clusters_T, counts_T = torch.unique_consecutive(cluster_P, return_counts=True)
        # Without a gradient to receive, rows are read where they lie.
        rows_of = self._gathered_rows if torch.is_grad_enabled() else self._stored_rows
        parts: list[Tensor] = []
        # No clusters make one piece without rows, so that the parameters get their gradient of zeros.
        chunks = torch.split(hidden_PD, counts_T.tolist() or [0])
        for hidden_bD, (weight_SD, bias_S) in zip(chunks, rows_of(clusters_T), strict=True):
            logits_bS = (
                hidden_bD @ weight_SD.T if bias_S is None else torch.addmm(bias_S, hidden_bD, weight_SD.T)
            )
            if num_padded := self.cluster_size - len(weight_SD):
                logits_bS = nn.functional.pad(logits_bS, (0, num_padded), value=-torch.inf)
            parts.append(logits_bS)
        return widened_tensor(torch.cat(parts)) / temperature

    def _stored_rows(self, clusters_T: Tensor) -> Iterator[Rows]:
        for start in (clusters_T * self.cluster_size).tolist() or [self.num_classes]:
            rows = slice(start, start + self.cluster_size)
            yield self.weight[rows], None if self.bias is None else self.bias[rows]

    def _gathered_rows(self, clusters_T: Tensor) -> Iterator[Rows]:
        places_TS = self._places(clusters_T)
        places_U = places_TS[places_TS < self.num_classes]
        left_T = self.num_classes - clusters_T * self.cluster_size
        sizes = left_T.clamp(max=self.cluster_size).tolist() or [0]
        weights = torch.split(gather_rows(self.weight, places_U, sparse=self.sparse), sizes)
        if self.bias is None:
            return ((weight_SD, None) for weight_SD in weights)
        biases = torch.split(gather_rows(self.bias, places_U, sparse=self.sparse), sizes)
        return zip(weights, biases, strict=True)


def _untouched_zeros(*shape: int) -> Tensor:
    """Zeros in memory the system has promised, not handed out: ``torch.zeros`` writes to every page."""
    return torch.from_numpy(np.zeros(shape, np.float32)).to(torch.get_default_device())
