"""Softmax and its logarithms, which never overflow and treat fully masked rows as empty."""

import numpy as np
import torch

from widemax.numerics.arrays import Array, NumpyArray, floating_array, floating_tensor


def softmax(x: Array, *, axis: int = -1) -> Array:
    """Probabilities of unnormalized log scores.

    softmax(x)_j = exp(x_j − m) / Σ_i exp(x_i − m), with m = max_i x_i.

    Args:
        x: array or tensor of any shape, in nats; integers are promoted to floating point.
        axis: the axis that is normalized.

    Returns:
        An array of the same kind and shape. Each row sums to 1, except a row whose every entry is −inf: it
        has nothing to share out, so it is all zeros (not NaN), and so is its gradient.

    Example:
        >>> softmax(np.array([1, 2, 3])).round(4)
        array([0.09  , 0.2447, 0.6652])
    """
    if isinstance(x, torch.Tensor):
        x = floating_tensor(x)
        empty = _empty_rows(x, axis)
        return torch.softmax(x.masked_fill(empty, 0.0), axis).masked_fill(empty, 0.0)
    x = floating_array(x)
    exps = np.exp(x - _shift(x, axis))
    sums = exps.sum(axis=axis, keepdims=True)
    return np.asarray(exps / np.where(sums == 0, 1, sums))


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """Logarithm of the softmax, computed without forming probabilities.

    log_softmax(x)_j = (x_j − m) − log Σ_i exp(x_i − m), with m = max_i x_i.

    Args:
        x: array or tensor of any shape, in nats; integers are promoted to floating point.
        axis: the axis that is normalized.

    Returns:
        An array of the same kind and shape; a row whose every entry is −inf stays −inf.

    Example:
        >>> log_softmax(np.array([0.0, 0.0])).round(4)
        array([-0.6931, -0.6931])
    """
    if isinstance(x, torch.Tensor):
        x = floating_tensor(x)
        empty = _empty_rows(x, axis)
        return torch.log_softmax(x.masked_fill(empty, 0.0), axis).masked_fill(empty, -torch.inf)
    x = floating_array(x)
    shifted = x - _shift(x, axis)
    sums = np.exp(shifted).sum(axis=axis, keepdims=True)
    return shifted - np.log(np.where(sums == 0, 1, sums))


def logsumexp(x: Array, *, axis: int = -1) -> Array:
    """Logarithm of a sum of exponentials: log Z of a row of logits.

    logsumexp(x) = m + log Σ_i exp(x_i − m), with m = max_i x_i.

    Args:
        x: array or tensor of any shape, in nats; integers are promoted to floating point.
        axis: the axis that is summed away.

    Returns:
        An array of the same kind without ``axis``; a row whose every entry is −inf gives −inf, and its
        gradient is zero (not NaN).

    Example:
        >>> float(logsumexp(np.array([1000.0, 1000.0])).round(4))
        1000.6931
    """
    if isinstance(x, torch.Tensor):
        x = floating_tensor(x)
        largest = x.amax(axis, keepdim=True).detach()
        shift = largest.masked_fill(largest.isinf(), 0.0)
        sums = (x - shift).exp().sum(axis, keepdim=True)
        empty = sums == 0
        # log is taken of 1 in empty rows, because the gradient of log at 0 would turn into NaN.
        return (sums.masked_fill(empty, 1.0).log() + shift.masked_fill(empty, -torch.inf)).squeeze(axis)
    x = floating_array(x)
    shift_array = _shift(x, axis)
    sums_array = np.exp(x - shift_array).sum(axis=axis, keepdims=True)
    is_empty = sums_array == 0
    total = np.log(np.where(is_empty, 1, sums_array)) + np.where(is_empty, -np.inf, shift_array)
    return np.asarray(total.squeeze(axis))


def _empty_rows(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.detach().amax(axis, keepdim=True) == -torch.inf


def _shift(x: NumpyArray, axis: int) -> NumpyArray:
    largest = np.max(x, axis=axis, keepdims=True)
    return np.where(np.isinf(largest), 0, largest)
