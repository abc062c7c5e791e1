"""Focal loss for one right class. Shapes: B rows, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import class_factors, losses, prepare_ids
from widemax.losses.terms import log_odds_against
from widemax.numerics import log_sigmoid


@losses.register("focal", takes="labels", answers="softmax")
def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: Annotated[float, Field(ge=0.0)] = 2.0,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Softmax cross-entropy in which rows that are already right count less.

    ℓ_b = −w_y (1 − p_y)^γ log p_y with p = softmax(s). γ = 0 is cross-entropy. Both factors come from the log
    odds against the label, so (1 − p_y)^γ stays accurate however near p_y is to 1.

    Use: for one right class a row where most rows are easy and the rare hard ones matter. Hard rows are often
    mislabeled ones, and its probabilities are off even with unlimited data; with noisy labels, or where
    probabilities must be right, take ``cross_entropy``.

    Args:
        gamma: γ, how fast a row loses weight as it becomes right.
        class_weight: [C] factor of the rows of each class (α in the paper), 1 by default.

    Raises:
        OptionError: a class weight below 0, or not finite.
        ShapeError: labels that are not one class id a row; not one weight a class.

    Example:
        >>> focal(torch.zeros(1, 2), torch.tensor([0]))  # log(2) / 4
        tensor([0.1733])

    Source: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), equation 5, with softmax for
    sigmoid; the paper's own sigmoid form is :func:`widemax.losses.binary_focal`.
    """
    logits_BC, labels_B, ignored_B = prepare_ids(logits, labels, ignore_index=ignore_index)
    against_B = log_odds_against(logits_BC, labels_B)
    loss_B = -torch.exp(gamma * log_sigmoid(against_B)) * log_sigmoid(-against_B)
    if class_weight is not None:
        weight_C = class_factors(class_weight, logits_BC, name="class_weight")
        loss_B = loss_B * weight_C.expand(logits_BC.shape[1])[labels_B]
    return loss_B.masked_fill(ignored_B, 0.0)
