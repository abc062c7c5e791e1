"""The loss over sampled classes, and how sampling is corrected for.

Shapes: B rows, D hidden, C classes, S sampled, P labels, U distinct rows, H accidental hits.
"""

from typing import Annotated, Literal, NamedTuple, get_args

import torch
from pydantic import Field
from torch import Tensor

from widemax.errors import ShapeError
from widemax.heads.labels import Labels, target_shares, training_pairs
from widemax.heads.scores import Score, build_score
from widemax.kernels import Pairs, gather_groups, linear_logsumexp, linear_softplus
from widemax.numerics import log_sigmoid, softplus
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.ids import explained
from widemax.numerics.order import distinct
from widemax.options import checked
from widemax.registry import Spec
from widemax.samplers import Candidates

Correction = Literal["none", "conditional", "importance", "refined"]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


@explained
@checked
def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Labels,
    candidates: Candidates,
    *,
    bias: Tensor | None = None,
    temperature: Annotated[float, Field(gt=0.0)] = 1.0,
    correction: Correction = "conditional",
    score: Spec | type[Score] | Score = "dot",
    sparse: bool = True,
    decoupled: bool = False,
) -> Tensor:
    """Softmax cross-entropy over a row's labels and a shared draw of classes, one number a row.

    Logits are divided by the temperature first, then labels get their margin, then the correction shifts by
    log E[count], then candidates that are labels of the row are masked with −inf. With Σ over the remaining
    candidates j, and q_j = E[count of j]:

    - ``"none"``: log(e^{s_t} + Σ e^{s_j}) − s_t. Biased, for comparison.
    - ``"conditional"``: the same with s_y − log q_y in place of every s_y, the label's included: the
      likelihood that t is the label, given which classes are candidates. Consistent for any sample size.
    - ``"importance"``: log Ẑ − s_t with Ẑ = e^{s_t} + Σ e^{s_j}/q_j, an unbiased estimate of Z.
    - ``"refined"``: sg(1 − P̂(t))·(log Σ e^{s_j}/q_j − s_t) with P̂(t) = e^{s_t}/Ẑ held constant (sg). Its
      gradient is (1 − P̂(t))·(E_{j≠t} ∇s_j − ∇s_t), which is that of ``"importance"`` where P̂ comes from the
      same draw, as it does here; its value is no likelihood.

    A row with several labels has the mean over them as target, and each label stands once in the sum; with
    ``decoupled`` each alone does, which is the mean of log(e^{s_t} + Σ e^{s_j}) − s_t over the labels t, and
    "refined" is "importance", since the sum over the others is all that sampling estimates. A row
    whose every candidate is its own label learns nothing from the draw.

    Args:
        hidden: [B, D] hidden vectors.
        weight: [C, D] class weights.
        labels: [B] class ids, or several a row.
        candidates: one draw with its expected counts, for the labels in the order of ``labels``.
        bias: [C] class biases.
        temperature: divides the logits, before any correction.
        correction: as above.
        score: how hidden vectors and weights are compared, with a margin perhaps.
        sparse: whether the gradients of weight and bias are sparse, over the rows used.
        decoupled: whether a row's other labels stay out of each label's denominator.

    Returns:
        [B] losses in nats, in float32 at least.

    Source: TensorFlow, "Candidate Sampling Algorithms" (conditional); Bengio and Senécal 2008, "Adaptive
    Importance Sampling" (importance); Khrylchenko et al. 2025, "Correcting the LogQ Correction" (refined);
    Gupta et al. 2024, "Dual-Encoders for Extreme Multi-Label Classification" (decoupled).

    Example:
        >>> every = Candidates(torch.arange(3), torch.zeros(3), torch.zeros(1))  # all classes, once each
        >>> weight = torch.tensor([[2.0], [3.0], [4.0]])
        >>> sampled_softmax_loss(torch.ones(1, 1), weight, torch.tensor([1]), every)
        tensor([1.4076])
    """
    pairs = training_pairs(labels, hidden, len(weight))
    scored = score_candidates(
        *(hidden, weight, bias, pairs, candidates, temperature, build_score(score)),
        shift=correction,
        sparse=sparse,
    )
    others = linear_logsumexp(scored.hidden_BD, scored.weight_SD, scored.shift_S, scored.hits)
    return softmax_of_candidates(*others, scored.labels_P, pairs, correction=correction, decoupled=decoupled)


def softmax_of_candidates(
    largest_B: Tensor,
    others_B: Tensor,
    labels_P: Tensor,
    pairs: Pairs,
    *,
    correction: Correction,
    decoupled: bool,
) -> Tensor:
    """[B] losses from the log-partition of the candidates, in two parts, and the logits of the labels."""
    # All is taken relative to a row's largest logit, a constant to autograd since it cancels.
    max_B = largest_B.scatter_reduce(0, pairs.rows_P, labels_P.detach(), "amax")
    relative_P = labels_P - max_B[pairs.rows_P]
    others_B = others_B + (largest_B - max_B)
    shares_P = target_shares(pairs, len(others_B)).to(others_B.dtype)
    if decoupled:
        terms_P = shares_P * softplus(others_B[pairs.rows_P] - relative_P)
        return torch.zeros_like(others_B).index_add(0, pairs.rows_P, terms_P)
    if correction == "refined":
        return _refined(others_B, relative_P, pairs)
    sum_B = others_B.exp().index_add(0, pairs.rows_P, relative_P.exp())
    terms_P = shares_P * (sum_B.log()[pairs.rows_P] - relative_P)
    return torch.zeros_like(sum_B).index_add(0, pairs.rows_P, terms_P)


@explained
@checked
def sampled_sigmoid_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Labels,
    candidates: Candidates,
    *,
    bias: Tensor | None = None,
    temperature: Annotated[float, Field(gt=0.0)] = 1.0,
    correction: Correction = "importance",
    score: Spec | type[Score] | Score = "dot",
    sparse: bool = True,
) -> Tensor:
    """Sigmoid cross-entropy over a row's labels and a shared draw of negatives, one number a row.

    ℓ_b = Σ_p softplus(−s_bp) + Σ_j w_j softplus(s_bj) over labels p and candidates j that are no label of the
    row. With q_j = E[count of j]:

    - ``"none"``: w_j = 1. Biased, for comparison.
    - ``"importance"``: w_j = 1/q_j, so that value and gradient are unbiased estimates of the exact ones.
      ``"refined"`` is the same here: a yes-or-no question has no partition function to refine.
    - ``"conditional"``: w_j = 1 with s_y − log q_y in place of every s_y, the labels' included: the
      likelihood that a class is a label, given that it is label or candidate ("sampled logistic").

    Args:
        hidden, weight, labels, candidates, bias, temperature, correction, score, sparse: as in
            :func:`sampled_softmax_loss`.

    Returns:
        [B] losses in nats, in float32 at least.

    Source: TensorFlow, "Candidate Sampling Algorithms", sampled logistic.

    Example:
        >>> every = Candidates(torch.arange(2), torch.zeros(2), torch.zeros(1))  # all classes, once each
        >>> sampled_sigmoid_loss(torch.ones(1, 1), torch.zeros(2, 1), torch.tensor([1]), every)
        tensor([1.3863])
    """
    pairs = training_pairs(labels, hidden, len(weight))
    shift: Correction = "conditional" if correction == "conditional" else "none"
    scored = score_candidates(
        *(hidden, weight, bias, pairs, candidates, temperature, build_score(score)),
        shift=shift,
        sparse=sparse,
    )
    negative_B = loss_of_negatives(scored, candidates, correction=correction)
    return negative_B.index_add(0, pairs.rows_P, -log_sigmoid(scored.labels_P))


def loss_of_negatives(scored: "Scored", candidates: Candidates, *, correction: Correction) -> Tensor:
    """[B] Σ_j w_j softplus(s_bj) over the candidates that are no label of the row."""
    factor_S = torch.ones_like(scored.shift_S)
    if correction in ("importance", "refined"):
        factor_S = (-candidates.log_expected_count).exp()
    return linear_softplus(scored.hidden_BD, scored.weight_SD, scored.shift_S, factor_S, scored.hits)


class Scored(NamedTuple):
    """Candidates as a linear layer with logits hidden · weight + shift, and [P] logits of the labels."""

    hidden_BD: Tensor
    weight_SD: Tensor
    shift_S: Tensor
    hits: Pairs
    labels_P: Tensor


def score_candidates(
    hidden_BD: Tensor,
    weight_CD: Tensor,
    bias_C: Tensor | None,
    pairs: Pairs,
    candidates: Candidates,
    temperature: float,
    score: Score,
    *,
    shift: Correction,
    sparse: bool,
) -> Scored:
    """Candidates and labels as they are scored in training, shifted as the correction says."""
    if len(candidates.label_log_expected_count) != len(pairs.ids_P):
        raise ShapeError(
            f"candidates must have been drawn for the {len(pairs.ids_P)} labels; they have counts of "
            f"{len(candidates.label_log_expected_count)}."
        )
    # One gradient for both: a sparse tensor without repeated rows.
    rows_U, _, place = distinct(torch.cat([candidates.class_ids, pairs.ids_P]))
    candidate_U, label_U = torch.split(place, [len(candidates.class_ids), len(pairs.ids_P)])
    groups = gather_groups(weight_CD, rows_U, candidate_U, label_U, sparse=sparse)
    weight_SD, label_weight_PD = map(score.scaled, groups)
    scaled_BD = score.scaled(hidden_BD) / temperature
    # index_select is several times faster than indexing with a tensor.
    label_hidden_PD = scaled_BD.index_select(0, pairs.rows_P)
    labels_P = widened_tensor(torch.linalg.vecdot(label_hidden_PD, label_weight_PD))
    if score.has_margin:
        norms_B = torch.linalg.vector_norm(hidden_BD, dim=1)
        labels_P = score.of_labels(labels_P * temperature, norms_B, pairs.rows_P) / temperature
    shift_S = labels_P.new_zeros(len(candidate_U))
    if bias_C is not None:
        bias_S, bias_P = gather_groups(bias_C, rows_U, candidate_U, label_U, sparse=sparse)
        shift_S = bias_S.to(labels_P.dtype) / temperature
        labels_P = labels_P + bias_P.to(labels_P.dtype) / temperature
    if shift != "none":
        shift_S = shift_S - candidates.log_expected_count.to(labels_P.dtype)
    if shift == "conditional":
        labels_P = labels_P - candidates.label_log_expected_count.to(labels_P.dtype)
    return Scored(scaled_BD, weight_SD, shift_S, _hits(pairs, candidates.class_ids), labels_P)


def _hits(pairs: Pairs, ids_S: Tensor) -> Pairs:
    """Where a candidate is a label of the row, however often it was drawn: rows and places in the draw."""
    first_P = torch.searchsorted(ids_S, pairs.ids_P)
    times_P = torch.searchsorted(ids_S, pairs.ids_P, right=True) - first_P
    rows_H = pairs.rows_P.repeat_interleave(times_P)
    # A label's hits stand side by side from its first place on: a running number, less where its run began.
    run_P = times_P.cumsum(0) - times_P - first_P
    run_H = run_P.repeat_interleave(times_P, output_size=len(rows_H))
    return Pairs(rows_H, torch.arange(len(rows_H), device=rows_H.device) - run_H)


def _refined(others_B: Tensor, labels_P: Tensor, pairs: Pairs) -> Tensor:
    """For one label, sg(1 − P̂)·(log Σ − s_t); for several, the same gradient: Σ_p sg(P̂_p − w_p) s_p + …"""
    with torch.no_grad():
        total_B = others_B.exp().index_add(0, pairs.rows_P, labels_P.exp())
        others_share_B = others_B.exp() / total_B
        slope_P = labels_P.exp() / total_B[pairs.rows_P] - target_shares(pairs, len(others_B))
        is_bare_B = torch.ones_like(others_B, dtype=torch.bool).index_fill_(0, pairs.rows_P, False)
        others_share_B.masked_fill_(is_bare_B, 0)
    # Without a candidate left, the logarithm is −inf and its weight 0.
    log_others_B = torch.where(others_share_B == 0, 0, others_share_B * others_B)
    return log_others_B.index_add(0, pairs.rows_P, slope_P.to(labels_P.dtype) * labels_P)
