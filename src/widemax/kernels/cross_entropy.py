"""The losses of a wide linear layer, in the form that suits their size.

Shapes: B rows, C classes, D hidden, P targets.
"""

from typing import Literal

import torch
from torch import Tensor

from widemax.errors import ShapeError, UsageError
from widemax.kernels import budget
from widemax.kernels.fused import SkippedTiles, fused_loss
from widemax.kernels.pairs import Pairs
from widemax.kernels.plain import Inputs, Options, plain_loss
from widemax.kernels.tiled import tiled_loss
from widemax.losses.base import Reduction, check_labels, reduce_loss, row_weights
from widemax.numerics.arrays import is_transformed, widened_tensor
from widemax.numerics.autocast import autocast_dtype
from widemax.options import Options as Arguments

Impl = Literal["auto", "plain", "tiled", "fused"]
# A label that no data has, as torch leaves out the rows of one.
NO_CLASS = 2**62 + 1


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor | Pairs,
    target_weights: Tensor | None = None,
    target_shifts: Tensor | None = None,
    *,
    normalizer: Literal["softmax", "sigmoid"] = "softmax",
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "none",
    skipped: SkippedTiles | None = None,
    impl: Impl = "auto",
) -> Tensor:
    """Cross-entropy of a linear layer with sparse targets t, the same number in every form.

    With s = (h Wᵀ + bias) / temperature: ℓ_b = −Σ_j t_bj log softmax(s_b)_j, or with a sigmoid a class
    ℓ_b = Σ_j softplus(s_bj) − t_bj s_bj. Smoothing replaces a row's target t by (1 − ε) t + ε/C · Σ_j t_j. A
    row without targets has loss 0 under a softmax.

    - ``"plain"`` holds the [B, C] logits, and can be transformed by torch.func.
    - ``"tiled"`` holds one tile of them, and computes them again in the backward pass: four products.
    - ``"fused"`` computes a reduced loss together with its gradients, in three products. It holds the
      gradients and twice as many numbers as there are weights, 64 MB at least and 512 MB at most in float32.

    A gradient of the gradient goes through the plain form. Under autocast products are taken in its dtype;
    the two latter forms take those of float16 in float32.

    Args:
        hidden: [B, D] hidden vectors.
        weight: [C, D] class weights.
        bias: [C] class biases, or None.
        targets: [B] class ids, or P distinct (row, class) pairs with target mass.
        target_weights: [P] mass of each target, without gradient; 1 by default.
        target_shifts: [P] what is added to the logits of targets, such as a margin.
        normalizer: "softmax", or a "sigmoid" a class.
        temperature: divides the logits.
        label_smoothing: ε, the part of the target spread evenly over all classes; with a softmax only.
        sample_weight: [B] weight of each row.
        reduction: "mean", "sum" or "none", as in :func:`widemax.losses.reduce_loss`.
        skipped: allows the fused form to leave tiles out of the gradient, and is told how many were.
        impl: the form; "auto" takes the fastest that fits.

    Returns:
        The loss in nats, in float32 at least.

    Raises:
        OptionError: an unknown form or reduction.
        ShapeError: hidden vectors of another length than the weights.
        UsageError: "fused" without a reduction.

    Example:
        >>> weight = torch.tensor([[2.0], [3.0], [4.0]])
        >>> linear_cross_entropy(torch.ones(1, 1), weight, None, torch.tensor([1]))
        tensor([1.4076])
    """
    # Two words only: to check all arguments takes a tenth of a small step's time.
    if not torch.compiler.is_compiling():
        _ARGUMENTS.check("reduction", reduction)
        _ARGUMENTS.check("impl", impl)
    if hidden.shape[1:] != weight.shape[1:]:
        raise ShapeError(
            f"hidden must be [B, {weight.shape[1]}], rows as long as the class weights; "
            f"got shape {tuple(hidden.shape)}."
        )
    if impl == "auto":
        impl = _choose(hidden, weight, bias, reduction)
    is_softmax = normalizer == "softmax"
    if (
        impl == "plain"
        and is_softmax
        and isinstance(targets, Tensor)
        and target_shifts is None
        and len(hidden)
    ):
        return _by_torch(
            *(hidden, weight, bias, targets), temperature, label_smoothing, sample_weight, reduction
        )
    targets = Pairs.of(targets)
    if targets.ids_P.is_cpu:
        check_labels(targets.ids_P, len(weight), rows=targets.rows_P)
    if target_weights is None:
        target_weights = torch.ones_like(targets.ids_P, dtype=torch.float32)
    inputs = Inputs(hidden, weight, bias, *targets, target_weights, target_shifts)
    options = Options(is_softmax, temperature, label_smoothing)
    if impl == "plain":
        loss_B = plain_loss(inputs, options)
    elif impl == "tiled":
        loss_B = tiled_loss(_in_one_dtype(inputs), options)
    elif reduction != "none":
        weights_B = row_weights(hidden, sample_weight=sample_weight, reduction=reduction)
        return fused_loss(_in_one_dtype(inputs), weights_B, options, skipped)
    else:
        raise UsageError(
            "impl 'fused' needs reduction 'mean' or 'sum'; got 'none'. Take impl 'tiled' for that."
        )
    return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)


_ARGUMENTS = Arguments(linear_cross_entropy, of="linear_cross_entropy")


def _by_torch(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_ids: Tensor,
    temperature: float,
    label_smoothing: float,
    sample_weight: Tensor | None,
    reduction: Reduction,
) -> Tensor:
    """torch's own loss: with few classes and one label a row, calls take more time than arithmetic."""
    logits_BC = torch.nn.functional.linear(hidden, weight, bias)
    try:
        loss = torch.nn.functional.cross_entropy(
            widened_tensor(logits_BC if temperature == 1.0 else logits_BC / temperature),
            class_ids,
            reduction=reduction if sample_weight is None else "none",
            label_smoothing=label_smoothing,
            ignore_index=NO_CLASS,
        )
    except IndexError:  # torch looks at the labels in passing; another look would take a tenth of the time
        check_labels(class_ids, len(weight))
        raise
    return (
        loss if sample_weight is None else reduce_loss(loss, sample_weight=sample_weight, reduction=reduction)
    )


def _in_one_dtype(inputs: Inputs) -> Inputs:
    """The layer as autocast would cast it; the range of float16 is too small for sums over many classes."""
    bias_C = None if inputs.bias_C is None else _cast(inputs.bias_C)
    return inputs._replace(
        hidden_BD=_cast(inputs.hidden_BD), weight_CD=_cast(inputs.weight_CD), bias_C=bias_C
    )


def _cast(tensor: Tensor) -> Tensor:
    dtype = autocast_dtype(tensor)
    return tensor.to(torch.float32 if dtype == torch.float16 else dtype)


def _choose(hidden: Tensor, weight: Tensor, bias: Tensor | None, reduction: Reduction) -> Impl:
    (num_rows, dim), num_classes = hidden.shape, weight.shape[0]
    # Only the plain form can be transformed by torch.func.
    if num_rows * num_classes <= budget.PLAIN_ELEMENTS or is_transformed():
        return "plain"
    has_gradient = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (hidden, weight, bias)
    )
    if has_gradient and reduction != "none" and budget.rows_at_once(num_rows, dim, num_classes):
        return "fused"
    return "tiled"
