"""What the formulas of several losses are made of. Shapes: B rows, C classes."""

import torch
from torch import Tensor

from widemax.numerics import logsumexp


def weigh(weights: Tensor, terms: Tensor) -> Tensor:
    """Product in which a weight of 0 leaves out even an infinite term, as a masked class needs.

    Example:
        >>> weigh(torch.tensor([0.0, 2.0]), torch.tensor([torch.inf, 3.0]))
        tensor([0., 6.])
    """
    return weights.to(terms.dtype) * terms.masked_fill((weights == 0) & terms.isinf(), 0.0)


def label_gaps(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """How far every other class stands above the label's.

    g_bj = s_bj − s_by for j ≠ y.

    Returns:
        [B, C] gaps, −inf at the label itself and at masked classes, or +inf throughout if the label is
        masked.

    Example:
        >>> label_gaps(torch.tensor([[2.0, 5.0, -torch.inf]]), torch.tensor([0]))
        tensor([[-inf, 3., -inf]])
    """
    label_logits_B1 = logits_BC.gather(1, labels_B[:, None])
    others_BC = logits_BC.scatter(1, labels_B[:, None], -torch.inf)
    gaps_BC = torch.where(others_BC == -torch.inf, -torch.inf, others_BC - label_logits_B1)
    return gaps_BC.masked_fill(label_logits_B1 == -torch.inf, torch.inf)


def log_odds_against(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Log odds that the class is another than the label, which stay accurate where a probability would round.

    r_b = log Σ_{j≠y} exp(s_bj − s_by), so that p_y = sigmoid(−r) and 1 − p_y = sigmoid(r).

    Returns:
        [B] log odds; the least finite number where there is no other class, so that 0 · r stays 0.

    Example:
        >>> log_odds_against(torch.tensor([[100.0, 0.0]]), torch.tensor([0]))
        tensor([-100.])
    """
    odds_B: Tensor = logsumexp(label_gaps(logits_BC, labels_B), axis=1)
    return odds_B.clamp(min=torch.finfo(odds_B.dtype).min)
