"""Linear layers over many classes, and rows of their weights, in little memory and time."""

from widemax.kernels.budget import rows_at_once
from widemax.kernels.cross_entropy import Impl, linear_cross_entropy, small_cross_entropy
from widemax.kernels.fused import Elsewhere, SkippedTiles, Sweep
from widemax.kernels.memory import keep_freed_memory
from widemax.kernels.pairs import Pairs
from widemax.kernels.partition import linear_logsumexp, linear_softplus
from widemax.kernels.ranking import num_true, topk_by_id
from widemax.kernels.rows import gather_groups, gather_rows
from widemax.kernels.stream import Added, Found, Powers, linear_logits, stream_classes
from widemax.kernels.tracing import not_traced

__all__ = [
    "Added",
    "Elsewhere",
    "Found",
    "Impl",
    "Pairs",
    "Powers",
    "SkippedTiles",
    "Sweep",
    "gather_groups",
    "gather_rows",
    "keep_freed_memory",
    "linear_cross_entropy",
    "linear_logits",
    "linear_logsumexp",
    "linear_softplus",
    "not_traced",
    "num_true",
    "rows_at_once",
    "small_cross_entropy",
    "stream_classes",
    "topk_by_id",
]
