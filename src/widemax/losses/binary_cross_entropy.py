"""Sigmoid cross-entropy for several right answers. Shapes: B rows, C classes."""

from torch import Tensor

from widemax.losses.base import class_factors, losses, prepare_targets
from widemax.losses.terms import weigh
from widemax.numerics import log_sigmoid


@losses.register("binary_cross_entropy", takes="targets", answers="sigmoid")
def binary_cross_entropy(logits: Tensor, targets: Tensor, *, positive_weight: Tensor | None = None) -> Tensor:
    """A yes-or-no question a class, summed over the classes of a row.

    ℓ_b = Σ_j w_j y_bj softplus(−s_bj) + (1 − y_bj) softplus(s_bj), with softplus(x) = log(1 + eˣ) computed as
    max(x, 0) + log1p(exp(−|x|)).

    Use: for any number of right classes a row, each judged by itself. With exactly one right class take
    ``cross_entropy``, in which classes compete. ``positive_weight`` shifts the probabilities, so leave it out
    where they must be right.

    Args:
        logits: [B, C] log odds.
        positive_weight: [C] factor w_j of each class's positive term, 1 by default.

    Raises:
        OptionError: a positive weight below 0, or not finite.
        ShapeError: targets of another shape than the logits; not one weight a class.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor([1.3863])

    Source: TensorFlow, sigmoid_cross_entropy_with_logits, for the stable form.
    """
    logits_BC, targets_BC = prepare_targets(logits, targets)
    yes_BC = targets_BC
    if positive_weight is not None:
        yes_BC = targets_BC * class_factors(positive_weight, logits_BC, name="positive_weight")
    return -(weigh(yes_BC, log_sigmoid(logits_BC)) + weigh(1 - targets_BC, log_sigmoid(-logits_BC))).sum(1)
