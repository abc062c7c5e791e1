"""Bayesian personalized ranking. Shapes: B rows, C classes."""

import torch
from torch import Tensor

from widemax.losses.base import losses, prepare_ids
from widemax.losses.terms import label_gaps
from widemax.numerics import log_sigmoid


@losses.register("bpr", takes="labels", answers="softmax")
def bpr(logits: Tensor, labels: Tensor, *, ignore_index: int = -100) -> Tensor:
    """How improbable it is that the right class ranks above a wrong one, averaged over the wrong ones.

    ℓ_b = mean_{j≠y} softplus(s_bj − s_by), the mean taken over the wrong classes that are not masked.

    Use: for ranking from clicks and purchases, where only the order of classes counts. It gives no
    probabilities, and easy wrong classes weigh as much as those near the top; where the top of the list
    counts take ``cross_entropy``.

    Args:
        logits: [B, C] scores.

    Returns:
        [B] losses in nats; 0 where no wrong class is left.

    Example:
        >>> bpr(torch.zeros(1, 5), torch.tensor([2]))
        tensor([0.6931])

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback" (UAI 2009), §4.1.
    """
    logits_BC, labels_B, ignored_B = prepare_ids(logits, labels, ignore_index=ignore_index)
    gaps_BC = label_gaps(logits_BC, labels_B)
    num_wrong_B = (gaps_BC > -torch.inf).sum(1).clamp(min=1)
    return (-log_sigmoid(-gaps_BC).sum(1) / num_wrong_B).masked_fill(ignored_B, 0.0)
