"""The losses of a wide linear layer, in the form that suits their size.

Shapes: B rows, C classes, D hidden, P targets.
"""

from typing import Literal, overload

import torch
from torch import Tensor

from widemax.errors import ShapeError, UsageError
from widemax.kernels import budget
from widemax.kernels.capped import CapOptions, capped_loss
from widemax.kernels.fused import SkippedTiles, fused_loss
from widemax.kernels.pairs import Pairs
from widemax.kernels.plain import Inputs, Options, plain_loss
from widemax.kernels.tiled import tiled_loss
from widemax.losses.base import Reduction, check_labels, reduce_loss, row_weights
from widemax.numerics.arrays import is_transformed, widened_tensor
from widemax.numerics.autocast import autocast_dtype
from widemax.options import Options as Arguments

Impl = Literal["auto", "plain", "tiled", "fused", "triton"]
# A label that no data has, as torch leaves out the rows of one.
NO_CLASS = 2**62 + 1


@overload
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
    softcap: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "none",
    return_log_partition: Literal[False] = False,
    skipped: SkippedTiles | None = None,
    impl: Impl = "auto",
) -> Tensor: ...


@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor | Pairs,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    softcap: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "none",
    return_log_partition: Literal[True],
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]: ...


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
    softcap: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "none",
    return_log_partition: bool = False,
    skipped: SkippedTiles | None = None,
    impl: Impl = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Cross-entropy of a linear layer with sparse targets t, the same number in every form.

    With s = (h Wᵀ + bias) / temperature: ℓ_b = −Σ_j t_bj log softmax(s_b)_j, or with a sigmoid a class
    ℓ_b = Σ_j softplus(s_bj) − t_bj s_bj. Smoothing replaces a row's target t by (1 − ε) t + ε/C · Σ_j t_j. A
    row without targets has loss 0 under a softmax.

    - ``"plain"`` holds the [B, C] logits, and can be transformed by torch.func.
    - ``"tiled"`` holds one tile of them, and computes them again in the backward pass: four products.
    - ``"fused"`` computes a reduced loss together with its gradients, in three products. It holds the
      gradients and twice as many numbers as there are weights, 64 MB at least and 512 MB at most in float32.
      Where the compiled kernels take float32 or, without AMX, bfloat16, of fewer than 128 dimensions, it
      holds no logits, and takes a fourth product; of any, up to 16 times the gradients of the hidden vectors
      of 2,048 rows.
    - ``"triton"`` computes a reduced loss together with its gradients on a GPU, by kernels of Triton, which
      is an extra (``pip install 'widemax[triton]'``). Tiles of classes whose probabilities are together too
      small for the dtype to show beside 1 have no part in the gradient. It has not been measured, so "auto"
      does not take it.

    ``softcap``, ``ignore_index`` and ``return_log_partition`` are of a softmax with one label a row, in the
    forms "plain", which "auto" takes then, and "triton". ``z_loss`` is of a softmax in every form.

    A gradient of the gradient goes through the plain form, but for "triton", which has none. Under autocast
    products are taken in its dtype; "fused" and "tiled" take those of float16 in float32.

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
        softcap: c > 0 makes logits c · tanh(s / c), in (−c, c); 0 leaves them.
        z_loss: λ adds λ (log Z_b)² to each row's loss.
        ignore_index: rows with this id have loss 0 and no part in a mean.
        sample_weight: [B] weight of each row.
        reduction: "mean", "sum" or "none", as in :func:`widemax.losses.reduce_loss`.
        return_log_partition: whether [B] log Z_b, without a gradient, is returned beside the loss.
        skipped: allows the fused form to leave tiles out of the gradient, and is told how many were.
        impl: the form; "auto" takes the fastest that fits.

    Returns:
        The loss in nats, in float32 at least.

    Raises:
        OptionError: an unknown form or reduction.
        ShapeError: hidden vectors of another length than the weights.
        UsageError: "fused" or "triton" without a reduction; "triton" without Triton or without a GPU; an
            option that the form does not have.

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
    is_softmax = normalizer == "softmax"
    if z_loss and (not is_softmax or skipped is not None):
        raise UsageError("z_loss is of a softmax without skipped tiles; leave it or them out.")
    is_capped = softcap or ignore_index is not None or return_log_partition
    if impl == "triton" or is_capped:
        others = target_weights, target_shifts, skipped
        if not is_softmax or isinstance(targets, Pairs) or any(x is not None for x in others):
            raise UsageError(
                "softcap, ignore_index, return_log_partition and impl 'triton' are of a softmax with one "
                "label a row, without shares, shifts and skipped; leave those out."
            )
        if impl not in ("auto", "plain", "triton"):
            raise UsageError(f"impl {impl!r} has no softcap, ignore_index and log Z; take 'auto'.")
        options = CapOptions(1 / temperature, softcap, label_smoothing, z_loss)
        loss, log_partition_B = capped_loss(
            *(hidden, weight, bias, targets, options),
            ignore_index=ignore_index,
            sample_weight=sample_weight,
            reduction=reduction,
            by_triton=impl == "triton",
        )
        return (loss, log_partition_B) if return_log_partition else loss
    if impl == "auto":
        impl = _choose(hidden, weight, bias, reduction)
    if (
        impl == "plain"
        and is_softmax
        and isinstance(targets, Tensor)
        and target_weights is None
        and target_shifts is None
        and not z_loss
        and len(hidden)
    ):
        loss = small_cross_entropy(
            *(hidden, weight, bias, targets),
            temperature,
            label_smoothing,
            "none" if sample_weight is not None else reduction,
        )
        if sample_weight is None:
            return loss
        return reduce_loss(loss, sample_weight=sample_weight, reduction=reduction)
    targets = Pairs.of(targets)
    if targets.ids_P.is_cpu:
        check_labels(targets.ids_P, len(weight), rows=targets.rows_P)
    if target_weights is None:
        target_weights = torch.ones_like(targets.ids_P, dtype=torch.float32)
    inputs = Inputs(hidden, weight, bias, *targets, target_weights, target_shifts)
    plain_options = Options(is_softmax, temperature, label_smoothing, z_loss)
    if impl == "plain":
        loss_B = plain_loss(inputs, plain_options)
    elif impl == "tiled":
        loss_B = tiled_loss(_in_one_dtype(inputs), plain_options)
    elif reduction != "none":
        weights_B = row_weights(hidden, sample_weight=sample_weight, reduction=reduction)
        return fused_loss(_in_one_dtype(inputs), weights_B, plain_options, skipped)
    else:
        raise UsageError(
            "impl 'fused' needs reduction 'mean' or 'sum'; got 'none'. Take impl 'tiled' for that."
        )
    return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)


_ARGUMENTS = Arguments(linear_cross_entropy, of="linear_cross_entropy")


def small_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_ids: Tensor,
    temperature: float,
    label_smoothing: float,
    reduction: Reduction,
) -> Tensor:
    """torch's own loss: with few classes and one label a row, calls take more time than arithmetic."""
    logits_BC = torch.nn.functional.linear(hidden, weight, bias)
    try:
        return torch.nn.functional.cross_entropy(
            widened_tensor(logits_BC if temperature == 1.0 else logits_BC / temperature),
            class_ids,
            reduction=reduction,
            label_smoothing=label_smoothing,
            ignore_index=NO_CLASS,
        )
    except IndexError:  # torch looks at the labels in passing; another look would take a tenth of the time
        check_labels(class_ids, len(weight))
        raise


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
