"""Samples of a categorical distribution as vectors that carry a gradient to the logits."""

import numpy as np
import torch

from widemax.errors import ArgumentError
from widemax.numerics.arrays import Array, Temperature
from widemax.numerics.rows import finished, rows_of, shifted
from widemax.numerics.softmax import softmax
from widemax.options import checked


@checked
def gumbel_softmax(
    x: Array,
    *,
    temperature: Temperature = 1.0,
    hard: bool = False,
    axis: int = -1,
    where: Array | None = None,
    generator: torch.Generator | np.random.Generator | None = None,
) -> Array:
    """A random softmax whose largest entry is a class drawn from softmax(x).

    y = softmax((x + G)/T) with independent standard Gumbel noise G_j = −log E_j, E_j exponential. Whatever
    the temperature T, P(argmax y = j) = softmax(x)_j; as T falls, y approaches the one-hot row of the drawn
    class.

    Args:
        x: array or tensor of any shape but (): logits in nats; integers are promoted to floating point.
        temperature: divides the noisy logits.
        hard: whether to return the exact one-hot row, with the gradient of the soft one (straight-through).
        axis: the axis along which one class is drawn, in [−ndim, ndim).
        where: boolean mask that broadcasts to the shape of ``x``; an entry outside it is never drawn.
        generator: source of the noise: a torch.Generator for a tensor, a numpy.random.Generator for an array;
            None is torch's own state, or a fresh one for an array.

    Returns:
        An array of the same kind, shape and type. A row whose every entry is −inf or masked is all zeros.

    Raises:
        ArgumentError: an argument of the wrong kind, or an unknown keyword.
        ShapeError: ``axis`` out of range, or ``where`` does not broadcast to ``x``.
        UsageError: ``temperature`` is not finite or not above 0.

    Example:
        >>> gumbel_softmax(np.zeros(3), hard=True, generator=np.random.default_rng(0))
        array([0., 0., 1.])

    Source: Jang, Gu and Poole, Categorical Reparameterization with Gumbel-Softmax, ICLR 2017, equation 2.
    """
    rows = rows_of(x, axis, where)
    noise = _tensor_noise if isinstance(x, torch.Tensor) else _array_noise
    noisy = shifted(rows, 1) + noise(rows.scores, generator)
    soft = softmax(noisy, axis=axis, temperature=temperature)
    if hard:
        hot = torch.zeros_like(noisy)
        if noisy.shape[axis]:
            hot = hot.scatter(axis, noisy.argmax(axis, keepdim=True), 1.0)
        # The difference is exactly 0, so that the entries stay exactly 0 and 1.
        soft = hot + (soft - soft.detach())
    return finished(soft, rows, x, 0.0)


# Noise is drawn in float64: a GPU's float32 exponentials start at 6e-8, which would end the noise at 16.6,
# where the largest of 10 million lies.


def _tensor_noise(like: torch.Tensor, generator: object) -> torch.Tensor:
    if not isinstance(generator, torch.Generator | None):
        raise ArgumentError(
            f"generator must be a torch.Generator for a tensor; got {type(generator).__name__}."
        )
    waits = torch.empty_like(like, dtype=torch.float64, requires_grad=False)
    noise = waits.exponential_(generator=generator).log_().neg_()
    return noise.to(torch.promote_types(like.dtype, torch.float32))


def _array_noise(like: torch.Tensor, generator: object) -> torch.Tensor:
    if not isinstance(generator, np.random.Generator | None):
        raise ArgumentError(
            f"generator must be a numpy.random.Generator for an array; got {type(generator).__name__}."
        )
    return torch.from_numpy((generator or np.random.default_rng()).gumbel(size=like.shape)).to(like.dtype)
