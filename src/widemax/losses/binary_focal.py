"""Focal loss for several right answers. Shapes: B rows, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses, prepare_targets
from widemax.losses.terms import weigh
from widemax.numerics import log_sigmoid


@losses.register("binary_focal", takes="targets", answers="sigmoid")
def binary_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: Annotated[float, Field(ge=0.0)] = 2.0,
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] | None = None,
) -> Tensor:
    """A yes-or-no question a class in which answers that are already right count less.

    ℓ_b = −Σ_j α y_bj (1 − p_bj)^γ log p_bj + (1 − α) (1 − y_bj) p_bj^γ log(1 − p_bj) with p = sigmoid(s);
    without α both of its factors are 1. γ = 0 is then binary cross-entropy.

    Use: for several right classes a row among very many easy wrong ones, as in detection. Its probabilities
    are off even with unlimited data; where they must be right take ``binary_cross_entropy``.

    Args:
        logits: [B, C] log odds.
        gamma: γ, how fast an answer loses weight as it becomes right.
        alpha: α, the share of the right classes; 0.25 in the paper.

    Example:
        >>> binary_focal(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))  # 2 log(2) / 4
        tensor([0.3466])

    Source: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), equation 5.
    """
    logits_BC, targets_BC = prepare_targets(logits, targets)
    yes_BC = _modulated(-logits_BC, gamma)
    no_BC = _modulated(logits_BC, gamma)
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return (weigh(positive * targets_BC, yes_BC) + weigh(negative * (1 - targets_BC), no_BC)).sum(1)


def _modulated(against_BC: Tensor, gamma: float) -> Tensor:
    """sigmoid(x)^γ softplus(x): the loss of answers whose log odds of being wrong are x."""
    # Products with an infinite factor have no gradient, so masked classes are finite until the end.
    limits = torch.finfo(against_BC.dtype)
    finite_BC = against_BC.clamp(limits.min, limits.max)
    terms_BC = -torch.exp(gamma * log_sigmoid(finite_BC)) * log_sigmoid(-finite_BC)
    return terms_BC.masked_fill(against_BC == torch.inf, torch.inf)
