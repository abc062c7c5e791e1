"""Where a token stands. Shapes: T positions, D numbers of a token, E of a token in one attention head."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.errors import ShapeError
from widemax.options import AtLeast1, checked

BASE = 10_000.0
"""The longest wave is 2π times so many positions long."""
Length = Annotated[int, Field(ge=0)]


@checked
def sinusoidal(length: Length, dim: AtLeast1, *, start: Length = 0) -> Tensor:
    """Waves of ever greater length, by which positions differ.

    P[t, 2i] = sin(t / 10000^(2i/D)) and P[t, 2i + 1] = cos(t / 10000^(2i/D)).

    Args:
        length: T, how many positions.
        dim: D.
        start: the first position.

    Returns:
        [T, D] in float32.

    Example:
        >>> sinusoidal(2, 2)
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.5.
    """
    angles_TE = _angles(torch.arange(start, start + length), dim)
    return torch.stack([angles_TE.sin(), angles_TE.cos()], -1).flatten(1)[:, :dim].float()


@checked
def rotary(vectors: Tensor, *, start: Length = 0) -> Tensor:
    """Queries or keys turned by their positions, so that their products depend on distances alone.

    The pair (x[2i], x[2i + 1]) at position t is turned by the angle t / 10000^(2i/E).

    Args:
        vectors: [..., T, E] with an even E.
        start: the position of the first.

    Returns:
        The same shape and type.

    Raises:
        ShapeError: an odd E, or less than two axes.

    Example:
        >>> rotary(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        tensor([[1.0000, 0.0000],
                [0.5403, 0.8415]])

    Source: Su et al., RoFormer: Enhanced transformer with rotary position embedding, 2021, equation 34.
    """
    if vectors.ndim < 2 or vectors.shape[-1] % 2:
        raise ShapeError(f"vectors must be [..., T, E] with an even E; got shape {tuple(vectors.shape)}.")
    length, dim = vectors.shape[-2:]
    angles_TE = _angles(torch.arange(start, start + length, device=vectors.device), dim)
    cos_TE, sin_TE = (part.to(vectors.dtype) for part in (angles_TE.cos(), angles_TE.sin()))
    even, odd = vectors[..., ::2], vectors[..., 1::2]
    return torch.stack([even * cos_TE - odd * sin_TE, even * sin_TE + odd * cos_TE], -1).flatten(-2)


def _angles(positions_T: Tensor, dim: int) -> Tensor:
    """[T, ⌈D/2⌉] of each position and wave, in float64."""
    waves_E = BASE ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=positions_T.device) / dim)
    return positions_T.double()[:, None] * waves_E
