"""Sigmoid cross-entropy for several right answers. Shapes: B rows, C classes."""

from torch import Tensor

from widemax.errors import ShapeError
from widemax.losses.base import losses
from widemax.numerics import log_sigmoid


@losses.register("binary_cross_entropy")
def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """A yes-or-no question a class, summed over the classes of a row.

    ℓ_b = Σ_j max(s_bj, 0) − s_bj y_bj + log1p(exp(−|s_bj|)).

    Args:
        logits: [B, C] log odds.
        targets: [B, C] 0 or 1, or anything between.

    Returns:
        [B] losses in nats.

    Raises:
        ShapeError: targets of another shape than the logits.

    Example:
        >>> import torch
        >>> binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor([1.3863])
    """
    if targets.shape != logits.shape:
        raise ShapeError(
            f"targets must have the shape of logits, {tuple(logits.shape)}; got {tuple(targets.shape)}."
        )
    return -(targets * log_sigmoid(logits) + (1 - targets) * log_sigmoid(-logits)).sum(1)
