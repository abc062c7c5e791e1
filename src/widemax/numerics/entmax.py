"""Sparse relatives of the softmax, which give unlikely entries a probability of exactly 0.

Both are p = max(z − τ, 0) to some power, with the threshold τ at which p sums to 1. The search for the
support (the entries above τ) is a constant to autograd; τ is then written in terms of the support, so that
derivatives of every order are those of the exact solution.
"""

import numpy as np
import torch

from widemax.numerics.arrays import (
    Array,
    NumpyArray,
    Temperature,
)
from widemax.numerics.rows import (
    array_rows,
    finished_array,
    finished_tensor,
    shifted_array,
    shifted_tensor,
    tensor_max,
    tensor_rows,
)
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
        >>> sparsemax(np.array([1.0, 0.5, -1.0]))
        array([0.75, 0.25, 0.  ])

    Source: Martins and Astudillo, From Softmax to Sparsemax, ICML 2016, algorithm 1.
    """
    if isinstance(x, torch.Tensor):
        rows = tensor_rows(x, axis, where)
        z = shifted_tensor(rows, temperature)
        descending, sizes = _descending(z.detach(), axis)
        # The threshold of the k largest grows with k up to the support's size and shrinks after it.
        found = tensor_max((descending.cumsum(axis) - 1) / sizes, axis)
        support = z > found
        threshold = (torch.where(support, z, 0).sum(axis, keepdim=True) - 1) / support.sum(axis, keepdim=True)
        return finished_tensor(torch.relu(z - threshold), rows, 0.0)
    array = array_rows(x, axis, where)
    z_array = shifted_array(array, temperature)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows of NaN and axes without entries
        ordered, ranks = _descending_array(z_array, axis)
        thresholds = (ordered.cumsum(axis=axis) - 1) / ranks
        kept = z_array > thresholds.max(axis=axis, keepdims=True, initial=-np.inf)
        sums = np.where(kept, z_array, 0).sum(axis=axis, keepdims=True)
        positive = np.maximum(z_array - (sums - 1) / kept.sum(axis=axis, keepdims=True), 0)
    return finished_array(positive, array, 0.0)


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
        >>> entmax15(np.array([1.0, 0.5, -2.0])).round(4)
        array([0.674, 0.326, 0.   ])

    Source: Peters, Niculae and Martins, Sparse Sequence-to-Sequence Models, ACL 2019, algorithm 2.
    """
    if isinstance(x, torch.Tensor):
        rows = tensor_rows(x, axis, where)
        z = shifted_tensor(rows, 2 * temperature)
        support = z > _entmax15_threshold(z.detach(), axis)
        size = support.sum(axis, keepdim=True)
        mean = torch.where(support, z, 0).sum(axis, keepdim=True) / size
        spread = torch.where(support, z - mean, 0).square().sum(axis, keepdim=True)
        threshold = mean - ((1 - spread) / size).sqrt()
        return finished_tensor(torch.relu(z - threshold).square(), rows, 0.0)
    array = array_rows(x, axis, where)
    z_array = shifted_array(array, 2 * temperature)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows of NaN and axes without entries
        kept = z_array > _entmax15_threshold_array(z_array, axis)
        sizes = kept.sum(axis=axis, keepdims=True)
        means = np.where(kept, z_array, 0).sum(axis=axis, keepdims=True) / sizes
        spreads = np.square(np.where(kept, z_array - means, 0)).sum(axis=axis, keepdims=True)
        roots = np.maximum(z_array - means + np.sqrt((1 - spreads) / sizes), 0)
    return finished_array(np.square(roots), array, 0.0)


def _entmax15_threshold(z: torch.Tensor, axis: int) -> torch.Tensor:
    # No score below −1 is in the support; beyond −2 they would only spoil the sums.
    descending, sizes = _descending(z.clamp(min=-2), axis)
    mean = descending.cumsum(axis) / sizes
    spread = sizes * (descending.square().cumsum(axis) / sizes - mean.square())
    thresholds = mean - ((1 - spread) / sizes).clamp(min=0).sqrt()
    return tensor_max(thresholds.masked_fill(thresholds > descending, -torch.inf), axis)


def _entmax15_threshold_array(z: NumpyArray, axis: int) -> NumpyArray:
    descending, sizes = _descending_array(np.maximum(z, -2), axis)
    mean = descending.cumsum(axis=axis) / sizes
    spread = sizes * (np.square(descending).cumsum(axis=axis) / sizes - np.square(mean))
    thresholds = mean - np.sqrt(np.maximum((1 - spread) / sizes, 0))
    fits = np.where(thresholds > descending, -np.inf, thresholds)
    return np.asarray(np.max(fits, axis=axis, keepdims=True, initial=-np.inf))


def _descending(z: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row from its largest score down, and how many there are so far."""
    sizes = torch.arange(1, z.shape[axis] + 1, dtype=z.dtype, device=z.device)
    return z.sort(axis, descending=True).values, _along(sizes, axis, z.ndim)


def _descending_array(z: NumpyArray, axis: int) -> tuple[NumpyArray, NumpyArray]:
    sizes = np.arange(1, z.shape[axis] + 1, dtype=z.dtype)
    return -np.sort(-z, axis=axis), _along(sizes, axis, z.ndim)


def _along(values: Array, axis: int, ndim: int) -> Array:
    """Values laid along one axis of an array of so many axes."""
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)
