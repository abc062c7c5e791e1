"""A hinge loss a class. Shapes: B rows, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses, prepare_targets
from widemax.losses.terms import weigh


@losses.register("one_vs_rest_hinge", takes="targets", answers="sigmoid")
def one_vs_rest_hinge(
    logits: Tensor, targets: Tensor, *, margin: Annotated[float, Field(ge=0.0)] = 1.0, squared: bool = False
) -> Tensor:
    """A yes-or-no question a class, each to be answered with a margin, summed over the classes of a row.

    ℓ_b = Σ_j y_bj h(m − s_bj) + (1 − y_bj) h(m + s_bj) with h(x) = max(0, x), or its square.

    Use: for linear classifiers with margins and any number of right classes, where no probabilities are
    needed. For probabilities take ``binary_cross_entropy``; with exactly one right class ``weston_watkins``
    lets classes compete.

    Args:
        logits: [B, C] scores; above 0 means yes.
        margin: m.
        squared: whether to square what an answer lacks.

    Example:
        >>> one_vs_rest_hinge(torch.tensor([[0.5, -3.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([0.5000])

    Source: Rifkin and Klautau, "In Defense of One-Vs-All Classification" (JMLR 2004).
    """
    logits_BC, targets_BC = prepare_targets(logits, targets)
    # Answers without weight lack nothing: the slope of their square would turn an infinite logit into NaN.
    yes_BC = torch.relu(margin - logits_BC.masked_fill(targets_BC == 0, margin))
    no_BC = torch.relu(margin + logits_BC.masked_fill(targets_BC == 1, -margin))
    if squared:
        yes_BC, no_BC = yes_BC.square(), no_BC.square()
    return (weigh(targets_BC, yes_BC) + weigh(1 - targets_BC, no_BC)).sum(1)
