"""The loss of sparsemax. Shapes: B rows, C classes."""

from torch import Tensor

from widemax.losses.base import losses
from widemax.losses.fenchel_young import fenchel_young
from widemax.numerics import sparsemax


@losses.register("sparsemax_loss", takes="labels", answers="softmax")
def sparsemax_loss(logits: Tensor, labels: Tensor, *, ignore_index: int = -100) -> Tensor:
    """A smooth hinge loss, 0 once the right class leads by 1, whose probabilities are sparsemax.

    ℓ_b = ⟨p − t, s⟩ + H(p) − H(t) with p = sparsemax(s) and H(p) = (1 − ‖p‖²)/2; the gradient is p − t.

    Use: for the sparsest probabilities. A head still answers with a softmax, so apply
    :func:`widemax.numerics.sparsemax` to its logits. ``entmax15_loss`` keeps more classes above 0,
    ``cross_entropy`` all of them.

    Args:
        labels: [B] class ids, or [B, C] target probabilities.

    Raises:
        ShapeError: labels that fit neither form.

    Example:
        >>> import torch
        >>> sparsemax_loss(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))
        tensor([0.0000, 0.2500])

    Source: Martins and Astudillo, "From Softmax to Sparsemax" (ICML 2016), §3.2.
    """
    return fenchel_young(logits, labels, sparsemax, _entropy, ignore_index=ignore_index)


def _entropy(probs_BC: Tensor) -> Tensor:
    return (1 - probs_BC.square().sum(1)) / 2
