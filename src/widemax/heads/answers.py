"""What a head says about a batch. Shapes: B rows, K kept, P labels (B of them when each row has one)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TopK:
    """The k best classes of each row, best first, equal logits by ascending class id.

    Attributes:
        class_ids: [B, K] int64 class ids.
        logits: [B, K] their logits; −inf marks an excluded class, listed only when nothing else is left.
        log_probs: [B, K] their log-probabilities among all classes, in nats.
    """

    class_ids: Tensor
    logits: Tensor
    log_probs: Tensor

    def to(self, device: torch.device) -> "TopK":
        """The same on another device."""
        return TopK(*(part.to(device) for part in vars(self).values()))


@dataclass(frozen=True)
class Answers:
    """All that evaluation asks of a batch, from one pass over the classes.

    Attributes:
        topk: the best classes of each row.
        log_partition: [B] log Σ_j exp(s_bj) over all classes, in nats; NaN where probabilities are those of
            yes-or-no questions, which it has no part in.
        square_sum: [B] Σ_j p_bj² over all classes; NaN likewise.
        label_logits: [P] the logit of each label; NaN for label −1 (a class never seen in training).
        label_log_probs: [P] its log-probability in nats; NaN for label −1.
        label_ranks: [P] int64 rank from 1 among the classes that are not excluded; 0 for label −1.
    """

    topk: TopK
    log_partition: Tensor
    square_sum: Tensor
    label_logits: Tensor
    label_log_probs: Tensor
    label_ranks: Tensor

    def to(self, device: torch.device) -> "Answers":
        """The same on another device."""
        return Answers(*(part.to(device) for part in vars(self).values()))
