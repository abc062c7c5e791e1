"""Fast twins of plain functions; a twin has the same signature as the plain form."""

from widemax.kernels.exponentials import softplus
from widemax.kernels.fused import (
    SkippedTiles,
    fused_binary_cross_entropy,
    fused_cross_entropy,
    rows_at_once,
)
from widemax.kernels.memory import keep_freed_memory
from widemax.kernels.pairs import Pairs
from widemax.kernels.partition import linear_logsumexp
from widemax.kernels.plain import plain_binary_cross_entropy, plain_cross_entropy
from widemax.kernels.ranking import topk_by_id
from widemax.kernels.rows import gather_groups, gather_rows
from widemax.kernels.stream import Found, stream_classes
from widemax.kernels.tiled import tiled_binary_cross_entropy, tiled_cross_entropy
from widemax.kernels.tracing import not_traced

__all__ = [
    "Found",
    "Pairs",
    "SkippedTiles",
    "fused_binary_cross_entropy",
    "fused_cross_entropy",
    "gather_groups",
    "gather_rows",
    "keep_freed_memory",
    "linear_logsumexp",
    "not_traced",
    "plain_binary_cross_entropy",
    "plain_cross_entropy",
    "rows_at_once",
    "softplus",
    "stream_classes",
    "tiled_binary_cross_entropy",
    "tiled_cross_entropy",
    "topk_by_id",
]
