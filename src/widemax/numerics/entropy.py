"""Entropy and Kullback–Leibler divergence, with 0 log 0 = 0."""

import numpy as np
import torch

from widemax.errors import ShapeError
from widemax.numerics.arrays import (
    Array,
    NumpyArray,
    check_axis,
    check_same_kind,
    floating_array,
    floating_tensor,
    widened_array,
    widened_tensor,
)
from widemax.numerics.softmax import log_softmax
from widemax.options import checked


@checked
def entropy(x: Array, *, from_logits: bool = False, axis: int = -1) -> Array:
    """How uncertain a distribution is, in nats.

    H(p) = −Σ_j p_j log p_j, where a term with p_j = 0 is 0.

    Args:
        x: array or tensor of any shape but (): probabilities, or logits when ``from_logits`` is true.
        from_logits: whether ``x`` holds logits, of which the softmax is meant.
        axis: the axis that is summed away, in [−ndim, ndim).

    Returns:
        An array of the same kind and type without ``axis``, between 0 and log of its length. The gradient at
        p_j = 0, infinite in theory, is 0.

    Raises:
        ArgumentError: ``x`` or ``axis`` of the wrong kind, or an unknown keyword.
        ShapeError: ``axis`` out of range.

    Example:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4)
        array([0.6931, 0.    ])
        >>> float(entropy(np.array([7.0, 7.0]), from_logits=True).round(4))
        0.6931
    """
    if isinstance(x, torch.Tensor):
        x = floating_tensor(x)
        check_axis(axis, x.shape)
        wide = _normalized_tensor(x, from_logits, axis)
        probs = wide.exp() if from_logits else wide
        return (probs * -_log_tensor(wide, probs == 0, from_logits)).sum(axis).to(x.dtype)
    x = floating_array(x)
    check_axis(axis, x.shape)
    wide_array = _normalized_array(x, from_logits, axis)
    array = np.exp(wide_array) if from_logits else wide_array
    total = np.asarray((array * -_log_array(wide_array, array == 0, from_logits)).sum(axis=axis))
    return total.astype(x.dtype, copy=False)


@checked
def kl_divergence(p: Array, q: Array, *, from_logits: bool = False, axis: int = -1) -> Array:
    """How many nats a code for ``q`` wastes on what comes from ``p``.

    KL(p ‖ q) = Σ_j p_j (log p_j − log q_j), where a term with p_j = 0 is 0 and one with p_j > 0 = q_j is
    +inf.

    Args:
        p: array or tensor of any shape but (): the true probabilities, or logits when ``from_logits`` is
            true.
        q: the same kind and shape: the other distribution, in the same form.
        from_logits: whether ``p`` and ``q`` hold logits, of which the softmax is meant; prefer them, since a
            small probability may round to 0.
        axis: the axis that is summed away, in [−ndim, ndim).

    Returns:
        An array of the same kind without ``axis``, at least 0 up to rounding, in the wider of both types. The
        gradient with respect to both at p_j = 0 is 0.

    Raises:
        ArgumentError: ``p``, ``q`` or ``axis`` of the wrong kind, or an unknown keyword.
        ShapeError: ``p`` and ``q`` differ in shape, or ``axis`` is out of range.

    Example:
        >>> kl_divergence(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.25, 0.75], [1.0, 0.0]])).round(4)
        array([0.1438,    inf])
    """
    check_same_kind(p=p, q=q)
    if isinstance(p, torch.Tensor):
        p, q = floating_tensor(p, "p"), floating_tensor(q, "q")
        _check_shapes(p.shape, q.shape)
        check_axis(axis, p.shape)
        wide_p, wide_q = (_normalized_tensor(x, from_logits, axis) for x in (p, q))
        probs = wide_p.exp() if from_logits else wide_p
        absent = probs == 0
        ratios = _log_tensor(wide_p, absent, from_logits) - _log_tensor(wide_q, absent, from_logits)
        return (probs * ratios).sum(axis).to(torch.promote_types(p.dtype, q.dtype))
    p, q = floating_array(p, "p"), floating_array(q, "q")
    _check_shapes(p.shape, q.shape)
    check_axis(axis, p.shape)
    array_p, array_q = (_normalized_array(x, from_logits, axis) for x in (p, q))
    array = np.exp(array_p) if from_logits else array_p
    zero = array == 0
    differences = _log_array(array_p, zero, from_logits) - _log_array(array_q, zero, from_logits)
    total = np.asarray((array * differences).sum(axis=axis))
    return total.astype(np.result_type(p.dtype, q.dtype), copy=False)


def _normalized_tensor(x: torch.Tensor, from_logits: bool, axis: int) -> torch.Tensor:
    x = widened_tensor(x)
    return log_softmax(x, axis=axis) if from_logits else x


def _normalized_array(x: NumpyArray, from_logits: bool, axis: int) -> NumpyArray:
    x = widened_array(x)
    return log_softmax(x, axis=axis) if from_logits else x


def _log_tensor(x: torch.Tensor, absent: torch.Tensor, is_log: bool) -> torch.Tensor:
    """Logarithms; where absent they and their gradients are 0, not infinite."""
    return x.masked_fill(absent, 0.0) if is_log else x.masked_fill(absent, 1.0).log()


def _log_array(x: NumpyArray, absent: NumpyArray, is_log: bool) -> NumpyArray:
    if is_log:
        return np.where(absent, 0, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.where(absent, 1, x))


def _check_shapes(p: tuple[int, ...], q: tuple[int, ...]) -> None:
    if p != q:
        raise ShapeError(f"p and q must have one shape; got {tuple(p)} and {tuple(q)}. Expand one of them.")
