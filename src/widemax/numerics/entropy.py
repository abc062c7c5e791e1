"""Entropy and Kullback–Leibler divergence, with 0 log 0 = 0."""

import torch

from widemax.errors import ShapeError
from widemax.numerics.arrays import Array, check_axis, check_same_kind, given_as, tensor_of, widened_tensor
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
        >>> import numpy as np
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4)
        array([0.6931, 0.    ])
        >>> float(entropy(np.array([7.0, 7.0]), from_logits=True).round(4))
        0.6931
    """
    wide = tensor_of(x)
    check_axis(axis, wide.shape)
    wide = _normalized(wide, from_logits, axis)
    probs = wide.exp() if from_logits else wide
    return given_as((probs * -_log(wide, probs == 0, from_logits)).sum(axis), x)


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
        >>> import numpy as np
        >>> kl_divergence(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.25, 0.75], [1.0, 0.0]])).round(4)
        array([0.1438,    inf])
    """
    check_same_kind(p=p, q=q)
    wide_p, wide_q = tensor_of(p, "p"), tensor_of(q, "q")
    if wide_p.shape != wide_q.shape:
        shapes = f"{tuple(wide_p.shape)} and {tuple(wide_q.shape)}"
        raise ShapeError(f"p and q must have one shape; got {shapes}. Expand one of them.")
    check_axis(axis, wide_p.shape)
    wide_p, wide_q = (_normalized(x, from_logits, axis) for x in (wide_p, wide_q))
    probs = wide_p.exp() if from_logits else wide_p
    absent = probs == 0
    ratios = _log(wide_p, absent, from_logits) - _log(wide_q, absent, from_logits)
    return given_as((probs * ratios).sum(axis), p, q)


def _normalized(x: torch.Tensor, from_logits: bool, axis: int) -> torch.Tensor:
    x = widened_tensor(x)
    return log_softmax(x, axis=axis) if from_logits else x


def _log(x: torch.Tensor, absent: torch.Tensor, is_log: bool) -> torch.Tensor:
    """Logarithms; where absent they and their gradients are 0, not infinite."""
    return x.masked_fill(absent, 0.0) if is_log else x.masked_fill(absent, 1.0).log()
