"""The sigmoid, its logarithm and softplus, which never overflow."""

import torch

from widemax.numerics.arrays import Array, given_as, tensor_of
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
        >>> import numpy as np
        >>> sigmoid(np.array([-0.5, 1.2, -0.1, 2.4])).round(2)
        array([0.38, 0.77, 0.48, 0.92])
    """
    return given_as(torch.sigmoid(tensor_of(x)), x)


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
        >>> import numpy as np
        >>> log_sigmoid(np.array([-1000.0, 0.0])).round(4)
        array([-1.000e+03, -6.931e-01])
    """
    return given_as(torch.nn.functional.logsigmoid(tensor_of(x)), x)


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
        >>> import numpy as np
        >>> softplus(np.array([0.0, 1000.0])).round(4)
        array([6.931e-01, 1.000e+03])
    """
    return given_as(torch.nn.functional.softplus(tensor_of(x), 1.0, SOFTPLUS_END), x)
