"""The sigmoid, its logarithm and softplus, which never overflow."""

import numpy as np
import torch

from widemax.numerics.arrays import Array, floating_array, floating_tensor, widened_array
from widemax.options import checked

# From here on log(1 + e^x) is x to the last bit, in float64 too.
SOFTPLUS_END = 40.0


@checked
def sigmoid(x: Array) -> Array:
    """Probability of a yes whose log odds are ``x``.

    sigmoid(x) = 1 / (1 + exp(−x)).

    Args:
        x: array or tensor of any shape, in nats; integers are promoted to floating point, and 16-bit numbers
            are computed with in float32.

    Returns:
        An array of the same kind and shape, between 0 and 1.

    Raises:
        ArgumentError: ``x`` does not hold real numbers.

    Example:
        >>> sigmoid(np.array([-0.5, 1.2, -0.1, 2.4])).round(2)
        array([0.38, 0.77, 0.48, 0.92])
    """
    if isinstance(x, torch.Tensor):
        return torch.sigmoid(floating_tensor(x))
    x = floating_array(x)
    wide = widened_array(x)
    small = np.exp(-np.abs(wide))
    return np.asarray(np.where(wide >= 0, 1, small) / (1 + small)).astype(x.dtype, copy=False)


@checked
def log_sigmoid(x: Array) -> Array:
    """Logarithm of the sigmoid, computed without forming the probability.

    log_sigmoid(x) = min(x, 0) − log1p(exp(−|x|)).

    Args:
        x: as in :func:`sigmoid`.

    Returns:
        An array of the same kind and shape, at most 0.

    Raises:
        ArgumentError: ``x`` does not hold real numbers.

    Example:
        >>> log_sigmoid(np.array([-1000.0, 0.0])).round(4)
        array([-1.000e+03, -6.931e-01])
    """
    if isinstance(x, torch.Tensor):
        return torch.nn.functional.logsigmoid(floating_tensor(x))
    x = floating_array(x)
    wide = widened_array(x)
    return np.asarray(np.minimum(wide, 0) - np.log1p(np.exp(-np.abs(wide)))).astype(x.dtype, copy=False)


@checked
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), which is −log_sigmoid(−x), in one pass over a tensor in place of four.

    Args:
        x: as in :func:`sigmoid`.

    Returns:
        An array of the same kind and shape, at least 0.

    Raises:
        ArgumentError: ``x`` does not hold real numbers.

    Example:
        >>> softplus(np.array([0.0, 1000.0])).round(4)
        array([6.931e-01, 1.000e+03])
    """
    if isinstance(x, torch.Tensor):
        return torch.nn.functional.softplus(floating_tensor(x), 1.0, SOFTPLUS_END)
    return -log_sigmoid(-floating_array(x))
