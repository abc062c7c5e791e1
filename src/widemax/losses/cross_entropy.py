"""Softmax cross-entropy. Shapes: B rows, C classes."""

import torch
from torch import Tensor

from widemax.errors import ShapeError
from widemax.losses.base import check_labels, losses
from widemax.numerics import log_softmax


@losses.register("cross_entropy")
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    from_logits: bool = True,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
) -> Tensor:
    """Negative log-likelihood of the right class among all classes, one number a row.

    ℓ_b = −Σ_j t_bj log a_bj with a = softmax(logits); the gradient with respect to the logits is a − t. The
    target t is the one-hot row of the label, or the given distribution; smoothing replaces it by
    (1 − ε) t + ε/C.

    Args:
        logits: [B, C] logits, or probabilities when ``from_logits`` is false (logits are more accurate).
        labels: [B] class ids, or [B, C] target probabilities (one-hot rows included).
        from_logits: whether the first argument holds logits.
        label_smoothing: ε, the part of the target spread evenly over all classes.
        ignore_index: rows with this class id have loss 0.

    Returns:
        [B] losses in nats.

    Raises:
        LabelError: a class id outside [0, C), with its row.
        ShapeError: labels that fit neither form.

    Example:
        >>> cross_entropy(torch.tensor([[2.0, 3.0, 4.0]]), torch.tensor([1]))
        tensor([1.4076])
    """
    if labels.ndim == 2 and labels.shape == logits.shape:
        targets_BC = labels.to(logits.dtype)
        if label_smoothing:
            targets_BC = (1 - label_smoothing) * targets_BC + label_smoothing / logits.shape[1]
        if not from_logits:
            terms_BC: Tensor = torch.special.xlogy(targets_BC, logits)
            return -terms_BC.sum(1)
        # A masked class (logit −inf) with no target mass costs nothing, but 0 · −inf would be NaN.
        return -torch.where(targets_BC == 0, 0, targets_BC * log_softmax(logits)).sum(1)
    if labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise ShapeError(
            f"labels must be {logits.shape[0]} class ids or target probabilities of shape "
            f"{tuple(logits.shape)}; got {labels.dtype} of shape {tuple(labels.shape)}."
        )
    check_labels(labels, logits.shape[1], ignore_index=ignore_index)
    ignored_B = labels == ignore_index
    log_probs_BC = log_softmax(logits) if from_logits else logits.log()
    safe_labels_B = labels.masked_fill(ignored_B, 0).long()
    loss_B = -log_probs_BC.gather(1, safe_labels_B[:, None]).squeeze(1)
    if label_smoothing:
        loss_B = (1 - label_smoothing) * loss_B - label_smoothing * log_probs_BC.mean(1)
    return loss_B.masked_fill(ignored_B, 0.0)
