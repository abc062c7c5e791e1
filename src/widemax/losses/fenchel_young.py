"""What Fenchel-Young losses share. Shapes: B rows, C classes."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from widemax.losses.base import prepare_ids, prepare_targets
from widemax.losses.terms import weigh


def fenchel_young(
    logits: Tensor,
    labels: Tensor,
    predict: Callable[[Tensor], Tensor],
    entropy: Callable[[Tensor], Tensor],
    *,
    ignore_index: int,
) -> Tensor:
    """The loss that belongs to a map from logits to probabilities, and is 0 where these are the target.

    ``predict`` is the map, [B, C] to [B, C], and ``entropy`` is H, [B, C] probabilities to [B]. Labels are
    [B] class ids or [B, C] target probabilities.

    ℓ_b = max_p (⟨s_b, p⟩ + H(p)) − H(t_b) − ⟨s_b, t_b⟩, where the map gives the best p; the gradient with
    respect to the logits is p − t. Shannon's entropy H would give softmax and cross-entropy.

    Example:
        >>> argmax = lambda logits: one_hot(logits.argmax(1), 2)
        >>> none = lambda probs: torch.zeros(len(probs))
        >>> fenchel_young(torch.tensor([[3.0, 1.0]]), torch.tensor([1]), argmax, none, ignore_index=-100)
        tensor([2.])

    Source: Blondel, Martins and Niculae, "Learning with Fenchel-Young Losses" (JMLR 2020), definition 2.
    """
    if labels.ndim == 2 and labels.shape == logits.shape:
        logits_BC, targets_BC = prepare_targets(logits, labels)
        ignored_B = torch.zeros_like(targets_BC[:, 0], dtype=torch.bool)
    else:
        also = f" or target probabilities of shape {tuple(logits.shape)}"
        logits_BC, labels_B, ignored_B = prepare_ids(logits, labels, ignore_index=ignore_index, also=also)
        targets_BC = one_hot(labels_B, logits.shape[1]).to(logits_BC.dtype)
    # All terms are unchanged by a constant, and the least rounding is left with the largest logit at 0.
    largest_B1 = logits_BC.detach().amax(1, keepdim=True)
    logits_BC = logits_BC - largest_B1.masked_fill(largest_B1 == -torch.inf, 0.0)
    probs_BC = predict(logits_BC)
    regret_B = weigh(probs_BC - targets_BC, logits_BC).sum(1)
    return (regret_B + entropy(probs_BC) - entropy(targets_BC)).masked_fill(ignored_B, 0.0)
