"""The head that trains on sampled classes. Shapes: B rows, D hidden, S sampled, P labels, U distinct rows."""

from typing import Annotated, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from widemax.heads.base import heads
from widemax.heads.labels import Labels
from widemax.heads.linear import LinearHead, LossName
from widemax.kernels import Pairs, gather_rows
from widemax.losses import reduce_loss
from widemax.losses.base import Reduction
from widemax.numerics import log_sigmoid, logsumexp
from widemax.samplers import Candidates, Sampler, samplers

Correction = Literal["none", "conditional"]


@final
@heads.register("sampled")
class SampledHead(LinearHead):
    """The loss over the labels and a shared draw of classes; a step costs the classes drawn, not all of them.

    Cross-entropy: every logit, the label's included, becomes s_y − log E[count of y]; candidates that are
    labels of the row are masked with −inf, and ℓ_b = log Σ exp over labels and candidates − the mean over
    the row's labels. Binary cross-entropy: ℓ_b = Σ_p softplus(−s_bp) + Σ_j softplus(s_bj) / E[count of j]
    over candidates that are no label of the row, an unbiased estimate of the exact loss.

    Weight and bias receive sparse gradients over the rows used.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.
        class_counts: [C] how often each class occurs in the training data; sets the first biases, and the
            sampler "frequency" needs it.
        num_rows: rows of the training data, for the first biases of binary cross-entropy.
        loss: "cross_entropy" for exactly one right class, "binary_cross_entropy" for any number.
        temperature: divides the logits, before any correction.
        bias: whether classes have biases.
        num_sampled: draws a batch.
        sampler: a sampler, or the name of one.
        correction: "conditional" as above; "none" leaves out expected counts: biased, for comparison.

    Source: Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine Translation", §3;
    TensorFlow, "Candidate Sampling Algorithms", sampled softmax.

    Example:
        >>> head = SampledHead(1_000_000, 8, num_sampled=64, sampler="log_uniform")
        >>> head(torch.ones(2, 8), torch.tensor([3, 999_999])).backward()
        >>> head.weight.grad.is_sparse
        True
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        class_counts: Tensor | None = None,
        num_rows: int | None = None,
        *,
        loss: LossName = "cross_entropy",
        temperature: Annotated[float, Field(gt=0.0)] = 1.0,
        bias: bool = True,
        num_sampled: Annotated[int, Field(ge=1)] = 8192,
        sampler: str | Sampler = "frequency",
        correction: Correction = "conditional",
    ) -> None:
        super().__init__(
            num_classes, dim, class_counts, num_rows, loss=loss, temperature=temperature, bias=bias
        )
        self.num_sampled = num_sampled
        self.sampler = samplers[sampler](num_classes, class_counts) if isinstance(sampler, str) else sampler
        self.correction = correction

    def forward(
        self,
        hidden: Tensor,
        labels: Labels,
        *,
        sample_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        pairs = self._training_pairs(hidden, labels)
        candidates = self.sampler.draw(pairs.ids_P.cpu(), self.num_sampled, generator=self.generator)
        candidates = candidates.to(hidden.device)
        others_BS, label_logits_P = self._training_logits(hidden, pairs, candidates)
        others_BS = _mask_hits(others_BS, pairs, candidates.ids_S)
        if self.loss == "cross_entropy":
            loss_B = self._cross_entropy(others_BS, label_logits_P, pairs)
        else:
            loss_B = self._binary_cross_entropy(others_BS, label_logits_P, pairs, candidates)
        return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)

    def _training_logits(
        self, hidden_BD: Tensor, pairs: Pairs, candidates: Candidates
    ) -> tuple[Tensor, Tensor]:
        """[B, S] logits of the candidates and [P] of the labels, corrected, in float32 at least."""
        # One gather for both, so that the gradient is one sparse tensor without repeated rows.
        rows_U, place = torch.unique(torch.cat([candidates.ids_S, pairs.ids_P]), return_inverse=True)
        candidate_U, label_U = torch.split(place, [len(candidates.ids_S), len(pairs.ids_P)])
        weight_UD = gather_rows(self.weight, rows_U)
        scaled_BD = hidden_BD / self.temperature
        logits_BS = scaled_BD @ weight_UD[candidate_U].T
        label_logits_P = torch.linalg.vecdot(scaled_BD[pairs.rows_P], weight_UD[label_U])
        dtype = torch.promote_types(logits_BS.dtype, torch.float32)
        # Per class shifts are summed first: then the large matrix is written once more, in place.
        shift_S = torch.zeros(len(candidate_U), dtype=dtype, device=hidden_BD.device)
        shift_P = torch.zeros(len(label_U), dtype=dtype, device=hidden_BD.device)
        if self.bias is not None:
            bias_U = gather_rows(self.bias, rows_U) / self.temperature
            shift_S, shift_P = shift_S + bias_U[candidate_U], shift_P + bias_U[label_U]
        if self.loss == "cross_entropy" and self.correction == "conditional":
            shift_S = shift_S - candidates.log_expected_count_S.to(dtype)
            shift_P = shift_P - candidates.log_expected_count_labels_B.to(dtype)
        return logits_BS.to(dtype).add_(shift_S), label_logits_P.to(dtype) + shift_P

    def _cross_entropy(self, others_BS: Tensor, label_logits_P: Tensor, pairs: Pairs) -> Tensor:
        others_B = logsumexp(others_BS)
        # The sum is taken relative to a row's largest term, a constant to autograd since it cancels.
        max_B = others_B.detach().scatter_reduce(0, pairs.rows_P, label_logits_P.detach(), "amax")
        relative_P = label_logits_P - max_B[pairs.rows_P]
        sum_B = (others_B - max_B).exp().index_add(0, pairs.rows_P, relative_P.exp())
        weights_P = self._target_weights(pairs, len(others_B)).to(relative_P.dtype)
        terms_P = weights_P * (sum_B.log()[pairs.rows_P] - relative_P)
        return torch.zeros_like(sum_B).index_add(0, pairs.rows_P, terms_P)

    def _binary_cross_entropy(
        self, others_BS: Tensor, label_logits_P: Tensor, pairs: Pairs, candidates: Candidates
    ) -> Tensor:
        negatives_BS = -log_sigmoid(-others_BS)
        if self.correction == "conditional":
            negative_B = negatives_BS @ (-candidates.log_expected_count_S).exp().to(negatives_BS.dtype)
        else:
            negative_B = negatives_BS.sum(1)
        return negative_B.index_add(0, pairs.rows_P, -log_sigmoid(label_logits_P))


def _mask_hits(logits_BS: Tensor, pairs: Pairs, candidates_S: Tensor) -> Tensor:
    """−inf, in place, wherever a candidate is one of the row's labels, however often it was drawn."""
    first_P = torch.searchsorted(candidates_S, pairs.ids_P)
    times_P = torch.searchsorted(candidates_S, pairs.ids_P, right=True) - first_P
    rows_H = pairs.rows_P.repeat_interleave(times_P)
    # A label's hits stand side by side from its first place on: a running number, less where its run began.
    run_H = (times_P.cumsum(0) - times_P - first_P).repeat_interleave(times_P)
    places_H = torch.arange(len(rows_H), device=rows_H.device) - run_H
    return logits_BS.index_put_((rows_H, places_H), logits_BS.new_tensor(-torch.inf))
