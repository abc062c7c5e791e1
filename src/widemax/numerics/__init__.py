"""Stable mathematics on NumPy arrays and torch tensors alike."""

from widemax.numerics.sigmoid import log_sigmoid, sigmoid
from widemax.numerics.softmax import log_softmax, logsumexp, softmax

__all__ = ["log_sigmoid", "log_softmax", "logsumexp", "sigmoid", "softmax"]
