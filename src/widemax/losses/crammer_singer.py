"""Multi-class hinge loss against the best wrong class. Shapes: B rows, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses, prepare_ids
from widemax.losses.terms import label_gaps


@losses.register("crammer_singer", takes="labels", answers="softmax")
def crammer_singer(
    logits: Tensor,
    labels: Tensor,
    *,
    margin: Annotated[float, Field(ge=0.0)] = 1.0,
    squared: bool = False,
    ignore_index: int = -100,
) -> Tensor:
    """What the right class lacks to stand a margin above the best wrong one.

    ℓ_b = max(0, m + max_{j≠y} s_bj − s_by), or its square.

    Use: for a linear classifier with margins and one right class, where no probabilities are needed. A row
    teaches only its best wrong class, which is slow with many classes: take ``weston_watkins``, which teaches
    all within the margin, or ``cross_entropy`` for probabilities.

    Args:
        logits: [B, C] scores.
        margin: m.
        squared: whether to square what is lacking.

    Returns:
        [B] losses. Equal best wrong classes share the gradient evenly.

    Example:
        >>> crammer_singer(torch.tensor([[1.0, 0.5, 0.75]]), torch.tensor([0]))
        tensor([0.7500])

    Source: Crammer and Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines"
    (JMLR 2001).
    """
    logits_BC, labels_B, ignored_B = prepare_ids(logits, labels, ignore_index=ignore_index)
    lack_B = torch.relu(margin + label_gaps(logits_BC, labels_B).amax(1))
    return (lack_B.square() if squared else lack_B).masked_fill(ignored_B, 0.0)
