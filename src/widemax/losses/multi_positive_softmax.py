"""Softmax cross-entropy for several right classes. Shapes: B rows, C classes."""

import torch
from torch import Tensor

from widemax.losses.base import losses, prepare_targets
from widemax.numerics import log_sigmoid, logsumexp


@losses.register("multi_positive_softmax", takes="targets", answers="softmax")
def multi_positive_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Each right class against all wrong ones, averaged over the right classes of a row.

    ℓ_b = (1/P_b) Σ_{p∈P} log(1 + Σ_{n∉P} exp(s_bn − s_bp)): the softmax cross-entropy of every right class p,
    from whose denominator the row's other right classes are masked as accidental hits. With one right class
    it is cross-entropy.

    Use: for several right classes a row that should all rank above the wrong ones, as in retrieval. For a
    yes-or-no probability of each class take ``binary_cross_entropy``; with one right class ``cross_entropy``
    is the same and needs less memory.

    Args:
        targets: [B, C] above 0 for the right classes P, whose mean is weighted by it; 1 for a plain mean.

    Returns:
        [B] losses in nats; 0 for a row without right classes.

    Example:
        >>> multi_positive_softmax(torch.zeros(1, 4), torch.tensor([[1, 1, 0, 0]]))  # log 3, not log 4
        tensor([1.0986])

    Source: Accidental hits: Jean et al., "On Using Very Large Target Vocabulary for Neural Machine
    Translation" (ACL 2015), §3; several positives: Khosla et al., "Supervised Contrastive Learning" (NeurIPS
    2020), equation 2, whose denominators keep the other positives.
    """
    logits_BC, targets_BC = prepare_targets(logits, targets)
    right_BC = targets_BC > 0
    wrong_BC = logits_BC.masked_fill(right_BC, -torch.inf)
    # Taken from large logits, a small logarithm of a sum would drown in their rounding.
    largest_B1 = wrong_BC.detach().amax(1, keepdim=True)
    largest_B1 = largest_B1.masked_fill(largest_B1 == -torch.inf, 0.0)
    wrong_B: Tensor = logsumexp(wrong_BC - largest_B1, axis=1)
    # Without wrong classes a finite stand-in for −inf keeps the differences below free of inf − inf.
    wrong_B1 = wrong_B.clamp(min=torch.finfo(wrong_B.dtype).min)[:, None]
    terms_BC = -log_sigmoid((logits_BC - largest_B1).masked_fill(~right_BC, 0.0) - wrong_B1)
    weights_BC = targets_BC.masked_fill(~right_BC, 0.0)
    total_B = weights_BC.sum(1)
    return (weights_BC * terms_BC).sum(1) / torch.where(total_B == 0, 1, total_B)
