"""Poly-1 cross-entropy. Shapes: B rows, C classes."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses, prepare_ids
from widemax.losses.terms import log_odds_against
from widemax.numerics import log_sigmoid, sigmoid


@losses.register("poly", takes="labels", answers="softmax")
def poly(
    logits: Tensor,
    labels: Tensor,
    *,
    epsilon: Annotated[float, Field(ge=-1.0)] = 1.0,
    ignore_index: int = -100,
) -> Tensor:
    """Cross-entropy with another first coefficient in its power series in 1 − p_y.

    ℓ_b = −log p_y + ε (1 − p_y), since −log p = Σ_k (1 − p)^k / k. ε = 0 is cross-entropy, ε = −1 drops the
    first term.

    Use: where ``cross_entropy`` works and one more number can be tuned on validation rows. Its probabilities
    are off even with unlimited data; where they must be right stay with ε = 0.

    Args:
        epsilon: ε, added to the first coefficient.

    Example:
        >>> import torch
        >>> poly(torch.zeros(1, 2), torch.tensor([0]))  # log(2) + 1/2
        tensor([1.1931])

    Source: Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions" (ICLR
    2022), Poly-1.
    """
    logits_BC, labels_B, ignored_B = prepare_ids(logits, labels, ignore_index=ignore_index)
    against_B = log_odds_against(logits_BC, labels_B)
    loss_B = epsilon * sigmoid(against_B) - log_sigmoid(-against_B)
    return loss_B.masked_fill(ignored_B, 0.0)
