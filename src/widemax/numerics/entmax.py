"""Sparse relatives of the softmax, which give unlikely entries a probability of exactly 0.

Both are p = max(z − τ, 0) to some power, with the threshold τ at which p sums to 1. The search for the
support (the entries above τ) is a constant to autograd; τ is then written in terms of the support, so that
derivatives of every order are those of the exact solution.
"""

import torch

from widemax.numerics.arrays import Array, Temperature
from widemax.numerics.rows import finished, max_along, rows_of, shifted
from widemax.options import checked


@checked
def sparsemax(
    x: Array, *, axis: int = -1, temperature: Temperature = 1.0, where: Array | None = None
) -> Array:
    """The point of the probability simplex that is nearest to the scores.

    sparsemax(x)_j = max(x_j/T − τ, 0), with the τ at which the entries sum to 1. On the support S,
    ``τ = (Σ_{i∈S} x_i/T − 1)/|S|``.

    Args:
        x: array or tensor of any shape but (); integers are promoted to floating point, and 16-bit
            numbers are computed with in float32.
        axis: the axis that is normalized, in [−ndim, ndim).
        temperature: divides ``x``; above 1 widens the support, below 1 narrows it.
        where: boolean mask that broadcasts to the shape of ``x``; an entry outside it has probability 0 and
            gradient 0 whatever it holds.

    Returns:
        An array of the same kind, shape and type. Rows of −inf, entries of +inf and NaN are treated as by
        :func:`softmax`.

    Raises:
        ArgumentError, ShapeError, UsageError: as :func:`softmax`.

    Example:
        >>> import numpy as np
        >>> sparsemax(np.array([1.0, 0.5, -1.0]))
        array([0.75, 0.25, 0.  ])

    Source: Martins and Astudillo, From Softmax to Sparsemax, ICML 2016, algorithm 1.
    """
    rows = rows_of(x, axis, where)
    z = shifted(rows, temperature)
    descending, sizes = _descending(z.detach(), axis)
    # The threshold of the k largest grows with k up to the support's size and shrinks after it.
    support = z > max_along((descending.cumsum(axis) - 1) / sizes, axis)
    threshold = (torch.where(support, z, 0).sum(axis, keepdim=True) - 1) / support.sum(axis, keepdim=True)
    return finished(torch.relu(z - threshold), rows, x, 0.0)


@checked
def entmax15(
    x: Array, *, axis: int = -1, temperature: Temperature = 1.0, where: Array | None = None
) -> Array:
    """Halfway between softmax and sparsemax: entmax with α = 1.5.

    entmax15(x)_j = max(x_j/(2T) − τ, 0)², with the τ at which the entries sum to 1. On the support S, with
    mean μ and sum of squared deviations σ of x_i/(2T), ``τ = μ − √((1 − σ)/|S|)``.

    Args:
        x, axis, temperature, where: as in :func:`sparsemax`.

    Returns:
        An array of the same kind, shape and type. Rows of −inf, entries of +inf and NaN are treated as by
        :func:`softmax`.

    Raises:
        ArgumentError, ShapeError, UsageError: as :func:`softmax`.

    Example:
        >>> import numpy as np
        >>> entmax15(np.array([1.0, 0.5, -2.0])).round(4)
        array([0.674, 0.326, 0.   ])

    Source: Peters, Niculae and Martins, Sparse Sequence-to-Sequence Models, ACL 2019, algorithm 2.
    """
    rows = rows_of(x, axis, where)
    z = shifted(rows, 2 * temperature)
    support = z > _entmax15_threshold(z.detach(), axis)
    size = support.sum(axis, keepdim=True)
    mean = torch.where(support, z, 0).sum(axis, keepdim=True) / size
    spread = torch.where(support, z - mean, 0).square().sum(axis, keepdim=True)
    threshold = mean - ((1 - spread) / size).sqrt()
    return finished(torch.relu(z - threshold).square(), rows, x, 0.0)


def _entmax15_threshold(z: torch.Tensor, axis: int) -> torch.Tensor:
    # No score below −1 is in the support; beyond −2 they would only spoil the sums.
    descending, sizes = _descending(z.clamp(min=-2), axis)
    mean = descending.cumsum(axis) / sizes
    spread = sizes * (descending.square().cumsum(axis) / sizes - mean.square())
    thresholds = mean - ((1 - spread) / sizes).clamp(min=0).sqrt()
    return max_along(thresholds.masked_fill(thresholds > descending, -torch.inf), axis)


def _descending(z: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row from its largest score down, and how many there are so far."""
    shape = [1] * z.ndim
    shape[axis] = -1
    sizes = torch.arange(1, z.shape[axis] + 1, dtype=z.dtype, device=z.device)
    return z.sort(axis, descending=True).values, sizes.reshape(shape)
