"""The adaptive softmax: rare classes live in clusters with narrow weights.

Shapes: B rows, C classes, D hidden, P labels, k classes of the shortlist, J clusters, H = k + J, Q labels of
one cluster.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.heads.base import Dim, heads
from widemax.heads.cutoffs import best_cutoffs
from widemax.heads.normalized import NormalizedHead, SoftmaxLoss, Temperature, law_of_places
from widemax.kernels import Pairs, linear_cross_entropy, not_traced
from widemax.numerics.arrays import widened_tensor
from widemax.options import AtLeast1

Cutoffs = tuple[AtLeast1, ...]


@final
@heads.register("adaptive")
class AdaptiveHead(NormalizedHead):
    """P(c | h) = softmax(h Wᵀ)_c on the shortlist, and P(cluster) · softmax(h V_iᵀ W_iᵀ)_c in cluster i.

    The softmax over the shortlist has one more logit for each cluster. Cluster i holds rarer classes than
    cluster i − 1, and projects hidden vectors to ⌊D / div_valueⁱ⁺¹⌋ numbers first, but at least to 1. A label
    costs the shortlist and its own cluster only. Biases start where they alone predict the frequencies of the
    classes, if these are given.

    Use: for language models and other classes whose frequencies fall steeply, where the shortlist answers
    most labels. Rare classes get narrow vectors, so with even frequencies, or where rare classes matter as
    much, take "exact" or "sampled".

    Args:
        num_classes: C, or ``Classes`` with their counts, which clusters follow. Without, class ids go from
            frequent to rare, by Zipf's law.
        cutoffs: how many of the most frequent classes stand before each cluster, ascending; "auto" takes
            those of least expected cost.
        div_value: how many times narrower each cluster is than the one before.
        bias: whether the shortlist and the clusters have biases.
        tail_bias: whether the classes of clusters have biases.

    Raises:
        ConfigError: cutoffs that do not ascend or exceed C − 1.

    Source: Grave et al. 2017, "Efficient softmax approximation for GPUs"; the same probabilities as
    ``torch.nn.AdaptiveLogSoftmaxWithLoss``.

    Example:
        >>> head = AdaptiveHead(10_000, 16, cutoffs=(100, 1000))
        >>> [tuple(weight.shape) for weight in head.tail_weights]
        [(900, 4), (9000, 1)]
    """

    place_of_class: Tensor

    waits = frozenset({"count", "read"})

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        loss: SoftmaxLoss = "cross_entropy",
        cutoffs: Cutoffs | Literal["auto"] = "auto",
        div_value: Annotated[float, Field(gt=0.0)] = 4.0,
        bias: bool = True,
        tail_bias: bool = True,
    ) -> None:
        classes = Classes.of(num_classes)
        num_classes = classes.num
        counts_C = torch.zeros(num_classes, dtype=torch.float64, device="cpu")
        if classes.counts is not None:
            counts_C = classes.counts.cpu().double()
        order_C = counts_C.argsort(descending=True, stable=True)
        if cutoffs == "auto":
            zipf_C = 1 / np.arange(1.0, num_classes + 1)
            by_place_C = zipf_C if classes.counts is None else counts_C[order_C].numpy() + 1
            cutoffs = best_cutoffs(by_place_C, dim)
        starts, ends = (0, *cutoffs), (*cutoffs, num_classes)
        if any(end <= start for start, end in zip(starts, ends, strict=True)):
            raise ConfigError(
                f"cutoffs must ascend within [1, {num_classes - 1}]; got {cutoffs}. Leave out those beyond "
                "the classes, or use 'auto'."
            )
        super().__init__(num_classes, dim, loss=loss, classes_per_label=num_classes // len(ends))
        self.cutoffs = cutoffs
        # Within a cluster by class id, so that equal classes stand in the order they are ranked in.
        class_of_place_C = self._cluster_of(order_C.argsort()).argsort(stable=True)
        self.register_buffer("place_of_class", class_of_place_C.argsort())
        sizes = [end - start for start, end in zip(starts, ends, strict=True)]
        narrow = [max(1, int(dim // div_value ** (cluster + 1))) for cluster in range(len(cutoffs))]
        self.weight = self.normal(sizes[0] + len(cutoffs), dim)
        self.bias = nn.Parameter(torch.zeros(len(self.weight))) if bias else None
        self.tail_projections = nn.ParameterList(self.normal(each, dim) for each in narrow)
        self.tail_weights = nn.ParameterList(map(self.normal, sizes[1:], narrow))
        biases = [nn.Parameter(torch.zeros(size)) for size in sizes[1:]]
        self.tail_biases = nn.ParameterList(biases) if tail_bias else None
        if classes.counts is not None:
            self._start_at_frequencies(torch.split(counts_C[class_of_place_C] + 1, sizes))

    @torch.no_grad()
    def _start_at_frequencies(self, masses: Sequence[Tensor]) -> None:
        """Set biases from the smoothed counts of the shortlist and of each cluster."""
        shortlist_k, *tails = masses
        if self.bias is not None:
            masses_H = torch.cat([shortlist_k, *(mass.sum()[None] for mass in tails)])
            self.bias.copy_((masses_H / masses_H.sum()).log())
        for bias, mass in zip(self.tail_biases or (), tails, strict=bool(self.tail_biases)):
            bias.copy_((mass / mass.sum()).log())

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield from super().laws()
        yield law_of_places(self.place_of_class, self._cluster_of(self.place_of_class))

    @not_traced
    def label_log_probs(self, hidden: Tensor, pairs: Pairs, temperature: Temperature) -> Tensor:
        place_P = self.place_of_class[pairs.ids_P]
        cluster_P = self._cluster_of(place_P)
        # One sort and one look at the sizes serve all clusters; a mask for each would wait for the device.
        order_P = cluster_P.argsort(stable=True)
        sizes = cluster_P.bincount(minlength=len(self.cutoffs) + 1).tolist()
        column_P = torch.where(cluster_P == 0, place_P, self.shortlist_size + cluster_P - 1)
        log_probs_P = self._head_log_probs(hidden, temperature)[pairs.rows_P, column_P]
        # Clusters without labels take part: distributed training waits for the gradient of each parameter.
        for cluster, places_Q in enumerate(torch.split(order_P, sizes)[1:]):
            relative_Q = place_P[places_Q] - self.cutoffs[cluster]
            loss_Q = self._tail_loss(hidden[pairs.rows_P[places_Q]], relative_Q, cluster, temperature)
            log_probs_P = log_probs_P.index_add(0, places_Q, -loss_Q)
        return log_probs_P

    def all_log_probs(self, hidden: Tensor, temperature: Temperature) -> Tensor:
        head_bH = self._head_log_probs(hidden, temperature)
        parts = [head_bH[:, : self.shortlist_size]]
        for cluster in range(len(self.cutoffs)):
            logits = widened_tensor(nn.functional.linear(*self._tail(hidden, cluster, temperature)))
            parts.append(logits.log_softmax(1) + head_bH[:, self.shortlist_size + cluster, None])
        return torch.cat(parts, 1).gather(1, self.place_of_class.expand(hidden.shape[0], -1))

    def embed(self, class_ids: Tensor) -> Tensor:
        """[..., D] the vectors of classes [...], for those that are inputs too ("adaptive input embeddings").

        That of the shortlist is its weight, that of cluster i its narrow weight times the projection, so that
        its product with a hidden vector is the logit within the cluster, but for the bias.

        Source: Baevski and Auli, "Adaptive input representations for neural language modeling", ICLR 2019.
        """
        place_P = self.place_of_class[class_ids.flatten()]
        cluster_P = self._cluster_of(place_P)
        order_P = cluster_P.argsort(stable=True)
        sizes = cluster_P.bincount(minlength=len(self.cutoffs) + 1).tolist()
        shortlist_Q, *tails = torch.split(place_P[order_P], sizes)
        parts = [nn.functional.embedding(shortlist_Q, self.weight)]
        for cluster, places_Q in enumerate(tails):
            relative_Q = places_Q - self.cutoffs[cluster]
            narrow = nn.functional.embedding(relative_Q, self.tail_weights[cluster])
            parts.append(narrow @ self.tail_projections[cluster])
        return torch.cat(parts)[order_P.argsort()].view(*class_ids.shape, self.dim)

    @property
    def shortlist_size(self) -> int:
        """How many classes stand in no cluster."""
        return len(self.weight) - len(self.cutoffs)

    def _cluster_of(self, place_P: Tensor) -> Tensor:
        """0 for the shortlist, i + 1 for cluster i."""
        cluster_P = torch.zeros_like(place_P)
        for end in self.cutoffs:
            cluster_P += place_P >= end
        return cluster_P

    def _head_log_probs(self, hidden_BD: Tensor, temperature: Temperature) -> Tensor:
        logits_BH = nn.functional.linear(hidden_BD, self.weight, self.bias) / temperature
        return widened_tensor(logits_BH).log_softmax(1)

    def _tail(
        self, hidden_BD: Tensor, cluster: int, temperature: Temperature
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Narrow hidden vectors, weight and bias that give a cluster's logits, divided by the temperature."""
        narrow = nn.functional.linear(hidden_BD, self.tail_projections[cluster]) / temperature
        bias = None if self.tail_biases is None else self.tail_biases[cluster] / temperature
        return narrow, self.tail_weights[cluster], bias

    def _tail_loss(
        self, hidden_QD: Tensor, relative_Q: Tensor, cluster: int, temperature: Temperature
    ) -> Tensor:
        return linear_cross_entropy(*self._tail(hidden_QD, cluster, temperature), relative_Q)
