"""Stable mathematics on NumPy arrays and torch tensors alike."""

from widemax.numerics.attention import attention
from widemax.numerics.entmax import entmax15, sparsemax
from widemax.numerics.entropy import entropy, kl_divergence
from widemax.numerics.gumbel import gumbel_softmax
from widemax.numerics.sigmoid import log_sigmoid, sigmoid, softplus
from widemax.numerics.softmax import log_softmax, logsumexp, softmax

__all__ = [
    "attention",
    "entmax15",
    "entropy",
    "gumbel_softmax",
    "kl_divergence",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "softmax",
    "softplus",
    "sparsemax",
]
