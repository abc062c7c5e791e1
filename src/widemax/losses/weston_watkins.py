"""Multi-class hinge loss against every wrong class. Shapes: B rows, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses, prepare_ids
from widemax.losses.terms import label_gaps


@losses.register("weston_watkins", takes="labels", answers="softmax")
def weston_watkins(
    logits: Tensor,
    labels: Tensor,
    *,
    margin: Annotated[float, Field(ge=0.0)] = 1.0,
    squared: bool = False,
    ignore_index: int = -100,
) -> Tensor:
    """What the right class lacks to stand a margin above the wrong ones, summed over them.

    ℓ_b = Σ_{j≠y} max(0, m + s_bj − s_by), or the sum of the squares. It is C times torch's
    ``multi_margin_loss``, which divides by the number of classes.

    Use: for a linear classifier with margins and one right class, which pushes back every wrong class within
    the margin. With many classes the sum over them grows: lower the learning rate, or take
    ``crammer_singer``. For probabilities take ``cross_entropy``.

    Args:
        logits: [B, C] scores.
        margin: m.
        squared: whether to square what is lacking.

    Example:
        >>> weston_watkins(torch.tensor([[1.0, 0.5, 0.75]]), torch.tensor([0]))
        tensor([1.2500])

    Source: Weston and Watkins, "Support Vector Machines for Multi-Class Pattern Recognition" (ESANN 1999).
    """
    logits_BC, labels_B, ignored_B = prepare_ids(logits, labels, ignore_index=ignore_index)
    lacks_BC = torch.relu(margin + label_gaps(logits_BC, labels_B))
    return (lacks_BC.square() if squared else lacks_BC).sum(1).masked_fill(ignored_B, 0.0)
