"""The loss of 1.5-entmax. Shapes: B rows, C classes."""

from torch import Tensor

from widemax.losses.base import losses
from widemax.losses.fenchel_young import fenchel_young
from widemax.numerics import entmax15


@losses.register("entmax15_loss", takes="labels", answers="softmax")
def entmax15_loss(logits: Tensor, labels: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Between cross-entropy and the loss of sparsemax: 0 once the right class leads by 2.

    ℓ_b = ⟨p − t, s⟩ + H(p) − H(t) with p = entmax15(s) and H(p) = (4/3) (1 − Σ_j p_j^1.5); the gradient is
    p − t.

    Use: for sparse probabilities, where most classes should get exactly 0. A head still answers with a
    softmax, so apply :func:`widemax.numerics.entmax15` to its logits. Where likelihood is the judge take
    ``cross_entropy``: a label of probability 0 has an infinite loss.

    Args:
        labels: [B] class ids, or [B, C] target probabilities.

    Raises:
        ShapeError: labels that fit neither form.

    Example:
        >>> import torch
        >>> entmax15_loss(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))
        tensor([0.0000, 0.3905])

    Source: Peters, Niculae and Martins, "Sparse Sequence-to-Sequence Models" (ACL 2019), §3.
    """
    return fenchel_young(logits, labels, entmax15, _entropy, ignore_index=ignore_index)


def _entropy(probs_BC: Tensor) -> Tensor:
    # The second derivative of p^1.5 at 0 is infinite; a class without probability adds nothing.
    is_zero_BC = probs_BC == 0
    powers_BC = probs_BC.masked_fill(is_zero_BC, 1.0).pow(1.5).masked_fill(is_zero_BC, 0.0)
    return 4 / 3 * (1 - powers_BC.sum(1))
