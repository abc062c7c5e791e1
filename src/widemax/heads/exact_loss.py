"""The loss over all classes as functions of tensors. Shapes: B rows, D hidden, C classes, P labels."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from widemax.heads.labels import Labels, row_labels, target_shares, training_pairs
from widemax.heads.scores import Score, build_score
from widemax.kernels import Impl, Pairs, SkippedTiles, linear_cross_entropy
from widemax.losses.base import Reduction, class_factors
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.ids import explained
from widemax.options import checked
from widemax.registry import Spec

Temperature = Annotated[float, Field(gt=0.0)]
Smoothing = Annotated[float, Field(ge=0.0, lt=1.0)]


@explained
@checked
def exact_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Labels,
    *,
    bias: Tensor | None = None,
    temperature: Temperature = 1.0,
    label_smoothing: Smoothing = 0.0,
    score: Spec | type[Score] | Score = "dot",
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
    impl: Impl = "auto",
) -> Tensor:
    """Softmax cross-entropy over all classes, in memory that does not grow with B·C where that is large.

    ℓ_b = log Z_b − Σ_p s_bp / P_b over the row's P_b labels, 0 without labels, with logits
    s = (score(h, W) + bias) / temperature, in which labels get their margin. Smoothing replaces a row's
    target t by (1 − ε) t + ε/C.

    Use: in a module of your own that holds the class weights; :class:`~widemax.heads.ExactHead` does so for
    you. With a reduction loss and gradients are computed together, in three quarters of the time.

    Args:
        hidden: [B, D] hidden vectors.
        weight: [C, D] class weights.
        labels: [B] class ids, or several a row.
        bias: [C] class biases.
        temperature: divides the logits.
        label_smoothing: ε, the part of the target spread evenly over all classes.
        score: how hidden vectors and weights are compared, with a margin perhaps.
        sample_weight: [B] weight of each row.
        reduction: "mean", "sum" or "none", as in :func:`widemax.losses.reduce_loss`.
        impl: "plain" holds the [B, C] logits, "tiled" computes them twice, "fused" (not for reduction "none")
            computes loss and gradients together; "auto" takes the fastest. All give the same number.

    Returns:
        The loss in nats, in float32 at least.

    Raises:
        LabelError: a class id outside [0, C); checked on CPU only, as it would stall an accelerator.
        ShapeError: hidden vectors of another length than the weights; not one label, or list of labels, a
            row.
        OptionError: an unknown option, or a value that it may not have.

    Example:
        >>> weight = torch.tensor([[2.0], [3.0], [4.0]])
        >>> exact_softmax_loss(torch.ones(1, 1), weight, torch.tensor([1]))
        tensor(1.4076)

    Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax" (log Z over tiles).
    """
    return exact_loss(
        *(hidden, weight, labels),
        normalizer="softmax",
        bias=bias,
        temperature=temperature,
        label_smoothing=label_smoothing,
        score=build_score(score),
        sample_weight=sample_weight,
        reduction=reduction,
        impl=impl,
    )


@explained
@checked
def exact_sigmoid_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Labels,
    *,
    bias: Tensor | None = None,
    temperature: Temperature = 1.0,
    score: Spec | type[Score] | Score = "dot",
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
    impl: Impl = "auto",
) -> Tensor:
    """Sigmoid cross-entropy over all classes, in memory that does not grow with B·C where that is large.

    ℓ_b = Σ_j softplus(s_bj) − Σ_p s_bp over all classes j and the row's labels p; all else is as in
    :func:`exact_softmax_loss`.

    Args:
        hidden, weight, labels, bias, temperature, score, sample_weight, reduction, impl: as there.

    Returns:
        The loss in nats, in float32 at least.

    Raises:
        LabelError, OptionError, ShapeError: as there.

    Example:
        >>> exact_sigmoid_loss(torch.ones(1, 1), torch.zeros(2, 1), torch.tensor([1]))
        tensor(1.3863)
    """
    return exact_loss(
        *(hidden, weight, labels),
        normalizer="sigmoid",
        bias=bias,
        temperature=temperature,
        label_smoothing=0.0,
        score=build_score(score),
        sample_weight=sample_weight,
        reduction=reduction,
        impl=impl,
    )


def exact_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Labels,
    *,
    normalizer: Literal["softmax", "sigmoid"],
    bias: Tensor | None,
    temperature: float,
    label_smoothing: float,
    score: Score,
    sample_weight: Tensor | None,
    reduction: Reduction,
    impl: Impl = "auto",
    skipped: SkippedTiles | None = None,
    class_weight: Tensor | None = None,
    z_loss: float = 0.0,
) -> Tensor:
    """Either of the two losses.

    ``skipped`` is that of :func:`~widemax.kernels.linear_cross_entropy`; ``class_weight`` and ``z_loss`` are
    those of :func:`~widemax.losses.cross_entropy`.
    """
    targets: Tensor | Pairs = (
        row_labels(labels, hidden) if class_weight is None else training_pairs(labels, hidden, len(weight))
    )
    shares_P = shifts_P = None
    if isinstance(targets, Pairs) and normalizer == "softmax":
        shares_P = target_shares(targets, len(hidden))
        if class_weight is not None:
            like = hidden.new_empty(0, len(weight), dtype=torch.float64)
            factors_C = class_factors(class_weight, like, name="class_weight").expand(len(weight))
            shares_P *= factors_C[targets.ids_P]
    if score.has_margin:
        shifts_P = margin_shifts(hidden, weight, Pairs.of(targets), score) / temperature
    return linear_cross_entropy(
        *(score.scaled(hidden), score.scaled(weight), bias, targets, shares_P, shifts_P),
        normalizer=normalizer,
        temperature=temperature,
        label_smoothing=label_smoothing,
        sample_weight=sample_weight,
        reduction=reduction,
        skipped=skipped,
        impl=impl,
        z_loss=z_loss,
    )


def margin_shifts(hidden: Tensor, weight: Tensor, pairs: Pairs, score: Score) -> Tensor:
    """[P] what a margin adds to the scores of labels, which may depend on all rows of the batch."""
    # index_select is several times faster than indexing with a tensor.
    hidden_PD = score.scaled(hidden).index_select(0, pairs.rows_P)
    weight_PD = score.scaled(weight.index_select(0, pairs.ids_P))
    scores_P = widened_tensor(torch.linalg.vecdot(hidden_PD, weight_PD))
    return score.of_labels(scores_P, torch.linalg.vector_norm(hidden, dim=1), pairs.rows_P) - scores_P
