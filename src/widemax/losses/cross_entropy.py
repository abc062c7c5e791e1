"""Softmax cross-entropy. Shapes: B rows, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.errors import UsageError
from widemax.losses.base import class_factors, losses, prepare_ids, prepare_targets
from widemax.losses.terms import weigh
from widemax.numerics import log_softmax, logsumexp


@losses.register("cross_entropy", takes="labels", answers="softmax")
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    from_logits: bool = True,
    class_weight: Tensor | None = None,
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ignore_index: int = -100,
    z_loss: Annotated[float, Field(ge=0.0)] = 0.0,
    softcap: Annotated[float, Field(gt=0.0)] | None = None,
) -> Tensor:
    """Negative log-likelihood of the right class among all classes, one number a row.

    ℓ_b = −Σ_j w_j t_bj log a_bj + z (log Z_b)² with a = softmax(s); without weights and z the gradient with
    respect to the logits is a − t. The target t is the one-hot row of the label, or the given distribution;
    smoothing replaces it by (1 − ε) t + ε/C.

    Use: the first choice for exactly one right class a row, at any width: heads compute it without holding
    all logits. For several right classes take ``binary_cross_entropy`` or ``multi_positive_softmax``; where
    easy rows drown the hard ones try ``focal``.

    Args:
        logits: [B, C] logits, or probabilities when ``from_logits`` is false (logits are more accurate).
        labels: [B] class ids, or [B, C] target probabilities (one-hot rows included).
        from_logits: whether the first argument holds logits.
        class_weight: [C] factor w_j of each class's term, 1 by default.
        label_smoothing: ε, the part of the target spread evenly over all classes that are not masked.
        z_loss: z, which holds the log-partition log Z near 0; 1e-4 is usual.
        softcap: c; logits s become c tanh(s/c), which lies within ±c.

    Raises:
        OptionError: a class weight below 0, or not finite.
        ShapeError: labels that fit neither form; not one weight a class.
        UsageError: ``z_loss`` or ``softcap`` with probabilities.

    Example:
        >>> cross_entropy(torch.tensor([[2.0, 3.0, 4.0]]), torch.tensor([1]))
        tensor([1.4076])

    Source: Smoothing: Szegedy et al. (CVPR 2016), §7. z-loss: Chowdhery et al., "PaLM" (2022), §5. Soft cap:
    Gemma Team, "Gemma 2" (2024), §2.
    """
    if not from_logits and (z_loss or softcap is not None):
        raise UsageError(
            "z_loss and softcap need logits; got from_logits=False. Pass logits, or leave both out."
        )
    is_distribution = labels.ndim == 2 and labels.shape == logits.shape
    if is_distribution:
        logits_BC, targets_BC = prepare_targets(logits, labels)
    else:
        also = f" or target probabilities of shape {tuple(logits.shape)}"
        logits_BC, labels_B, ignored_B = prepare_ids(logits, labels, ignore_index=ignore_index, also=also)
    if softcap is not None:
        logits_BC = _softcap(logits_BC, softcap)
    costs_BC = -(log_softmax(logits_BC) if from_logits else _log(logits_BC))
    masked_BC = costs_BC == torch.inf
    if class_weight is not None:
        costs_BC = weigh(class_factors(class_weight, costs_BC, name="class_weight"), costs_BC)
    if is_distribution:
        loss_B = weigh(targets_BC, costs_BC).sum(1)
    else:
        loss_B = costs_BC.gather(1, labels_B[:, None]).squeeze(1)
    if label_smoothing:
        spread_B = costs_BC.masked_fill(masked_BC, 0.0).sum(1) / (~masked_BC).sum(1).clamp(min=1)
        loss_B = (1 - label_smoothing) * loss_B + label_smoothing * spread_B
    if z_loss:
        loss_B = loss_B + z_loss * logsumexp(logits_BC, axis=1).square()
    return loss_B if is_distribution else loss_B.masked_fill(ignored_B, 0.0)


def _softcap(logits_BC: Tensor, cap: float) -> Tensor:
    """cap · tanh(logits / cap); a masked class stays masked."""
    return torch.where(logits_BC == -torch.inf, logits_BC, cap * torch.tanh(logits_BC / cap))


def _log(probs_BC: Tensor) -> Tensor:
    """Logarithm whose gradient is 0, not inf, where it is −inf."""
    is_zero_BC = probs_BC == 0
    return probs_BC.masked_fill(is_zero_BC, 1.0).log().masked_fill(is_zero_BC, -torch.inf)
