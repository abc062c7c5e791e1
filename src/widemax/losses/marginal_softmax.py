"""Softmax cross-entropy where any of several classes is right. Shapes: B rows, C classes."""

import torch
from torch import Tensor

from widemax.losses.base import losses, prepare_targets
from widemax.numerics import log_sigmoid, logsumexp


@losses.register("marginal_softmax", takes="targets", answers="softmax")
def marginal_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """The surprise that the answer is among the right classes.

    ℓ_b = −log Σ_{p∈P} softmax(s_b)_p: the right classes share what they are given, and none is pushed for
    itself. With one right class it is cross-entropy.

    Use: where any right class will do and the model may choose, as with the actions of a parser that all keep
    the right tree in reach. Where each right class should be found take ``multi_positive_softmax``.

    Args:
        targets: [B, C] above 0 for the right classes P, weights on their probabilities; 1 for a plain sum.

    Returns:
        [B] losses in nats; 0 for a row without right classes.

    Example:
        >>> marginal_softmax(torch.zeros(1, 4), torch.tensor([[1, 1, 0, 0]]))  # log 2
        tensor([0.6931])

    Source: Lee et al., "End-to-end Neural Coreference Resolution" (EMNLP 2017), equation 8; for parsers
    Goldberg and Nivre, "A Dynamic Oracle for Arc-Eager Dependency Parsing" (COLING 2012), algorithm 3.
    """
    logits_BC, targets_BC = prepare_targets(logits, targets)
    # Taken from large logits, a small loss would drown in their rounding.
    largest_B1 = logits_BC.detach().amax(1, keepdim=True)
    shifted_BC = logits_BC - largest_B1.masked_fill(largest_B1 == -torch.inf, 0.0)
    right_B: Tensor = logsumexp(shifted_BC + _log(targets_BC), axis=1)
    wrong_B: Tensor = logsumexp(shifted_BC + _log(1 - targets_BC), axis=1)
    # Without wrong classes a finite stand-in for −inf keeps the difference free of inf − inf.
    loss_B: Tensor = -log_sigmoid(right_B - wrong_B.clamp(min=torch.finfo(wrong_B.dtype).min))
    return loss_B.masked_fill(~(targets_BC > 0).any(1), 0.0)


def _log(weights_BC: Tensor) -> Tensor:
    """Logarithms, −inf for 0 without a gradient there."""
    is_zero_BC = weights_BC == 0
    return weights_BC.masked_fill(is_zero_BC, 1.0).log().masked_fill(is_zero_BC, -torch.inf)
