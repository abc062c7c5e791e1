"""Softmax and its logarithms, which never overflow and treat fully masked rows as empty."""

import torch

from widemax.numerics.arrays import Array, Temperature, given_as
from widemax.numerics.rows import finished, rows_of, shifted
from widemax.options import checked


@checked
def softmax(x: Array, *, axis: int = -1, temperature: Temperature = 1.0, where: Array | None = None) -> Array:
    """Probabilities of unnormalized log scores.

    softmax(x)_j = exp(x_j/T − m) / Σ_i exp(x_i/T − m), with temperature T and m = max_i x_i/T; j and i run
    over the entries that ``where`` admits.

    Args:
        x: array or tensor of any shape but (), in nats; integers are promoted to floating point, and 16-bit
            numbers are computed with in float32.
        axis: the axis that is normalized, in [−ndim, ndim).
        temperature: divides ``x``; above 1 flattens the probabilities, below 1 sharpens them.
        where: boolean mask that broadcasts to the shape of ``x``; an entry outside it has probability 0 and
            gradient 0 whatever it holds.

    Returns:
        An array of the same kind, shape and type. Each row sums to 1, except a row whose every entry is −inf
        or masked: it has nothing to share out, so it is all zeros (not NaN), and so is its gradient. Entries
        of +inf share the mass equally, a constant whose gradient is zero. A row with NaN is NaN.

    Raises:
        ArgumentError: ``x``, ``axis``, ``temperature`` or ``where`` of the wrong kind, or an unknown keyword.
        ShapeError: ``axis`` out of range, or ``where`` does not broadcast to ``x``.
        UsageError: ``temperature`` is not finite or not above 0.

    Example:
        >>> import numpy as np
        >>> softmax(np.array([1, 2, 3])).round(4)
        array([0.09  , 0.2447, 0.6652])
        >>> softmax(np.array([1.0, 1.0, np.nan]), where=np.array([True, True, False]))
        array([0.5, 0.5, 0. ])
    """
    rows = rows_of(x, axis, where)
    scores = rows.scores if temperature == 1 else shifted(rows, temperature)
    return finished(torch.softmax(scores, axis), rows, x, 0.0)


@checked
def log_softmax(
    x: Array, *, axis: int = -1, temperature: Temperature = 1.0, where: Array | None = None
) -> Array:
    """Logarithm of the softmax, computed without forming probabilities.

    log_softmax(x)_j = (x_j/T − m) − log Σ_i exp(x_i/T − m), with temperature T and m = max_i x_i/T; i runs
    over the entries that ``where`` admits.

    Args:
        x: array or tensor of any shape but (), in nats; integers are promoted to floating point, and 16-bit
            numbers are computed with in float32 (by torch's own function where the temperature is 1).
        axis, temperature: as in :func:`softmax`.
        where: boolean mask that broadcasts to the shape of ``x``; an entry outside it has log-probability
            −inf and gradient 0 whatever it holds.

    Returns:
        An array of the same kind, shape and type. A row whose every entry is −inf or masked is −inf; in a row
        with n entries of +inf each of them is −log n and the rest −inf. The gradient of both kinds of row is
        zero. A row with NaN is NaN.

    Raises:
        ArgumentError, ShapeError, UsageError: as :func:`softmax`.

    Example:
        >>> import numpy as np
        >>> log_softmax(np.array([0.0, 0.0])).round(4)
        array([-0.6931, -0.6931])
    """
    rows = rows_of(x, axis, where)
    scores = rows.scores if temperature == 1 else shifted(rows, temperature)
    return finished(torch.log_softmax(scores, axis), rows, x, -torch.inf)


@checked
def logsumexp(
    x: Array, *, axis: int = -1, temperature: Temperature = 1.0, where: Array | None = None
) -> Array:
    """Logarithm of a sum of exponentials: log Z of a row of logits.

    logsumexp(x) = m + log Σ_i exp(x_i/T − m), with temperature T and m = max_i x_i/T; i runs over the entries
    that ``where`` admits.

    Args:
        x, temperature: as in :func:`softmax`.
        axis: the axis that is summed away, in [−ndim, ndim).
        where: boolean mask that broadcasts to the shape of ``x``; an entry outside it has no share in the sum
            and gradient 0 whatever it holds.

    Returns:
        An array of the same kind and type without ``axis``. A row whose every entry is −inf or masked, or
        that has no entry, gives −inf; a row with an entry of +inf gives +inf; the gradient of both is zero
        (not NaN). A row with NaN is NaN.

    Raises:
        ArgumentError, ShapeError, UsageError: as :func:`softmax`.

    Example:
        >>> import numpy as np
        >>> float(logsumexp(np.array([1000.0, 1000.0])).round(4))
        1000.6931
    """
    rows = rows_of(x, axis, where)
    sums = shifted(rows, temperature).exp().sum(axis, keepdim=True)
    return given_as((sums.log() + rows.largest / temperature).squeeze(axis), x)
