"""Logits and labels to one loss a row, in nats; ``reduce_loss`` is the only place that divides."""

from widemax.losses.base import check_labels, losses, reduce_loss
from widemax.losses.binary_cross_entropy import binary_cross_entropy
from widemax.losses.cross_entropy import cross_entropy

__all__ = ["binary_cross_entropy", "check_labels", "cross_entropy", "losses", "reduce_loss"]
