"""e^x, and log(1 + e^x), in memory at hand, where they decide the time."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from widemax.numerics.sigmoid import SOFTPLUS_END


def exp_minus(values: Tensor, shift: Tensor, *, out: Tensor) -> Tensor:
    """e^(values − shift), or twice the least normal number where that is more, into ``out``.

    Results below the normal numbers would take up to a hundred times as long.

    Args:
        out: may be ``values``.

    Returns:
        ``out``.

    Example:
        >>> logits = torch.tensor([[5.0, 4.0, -torch.inf]])
        >>> exp_minus(logits, torch.tensor([5.0]), out=logits)
        tensor([[1.0000e+00, 3.6788e-01, 2.3510e-38]])
    """
    least = math.log(2 * torch.finfo(values.dtype).tiny)
    return torch.sub(values, shift[:, None], out=out).clamp_(min=least).exp_()


def softplus_into(values: Tensor, out: Tensor) -> Tensor:
    """:func:`widemax.numerics.softplus` into other memory or that of ``values``; without a gradient."""
    softplus: Callable[..., Tensor] = torch.nn.functional.softplus  # torch does not say that it takes out
    return softplus(values, 1.0, SOFTPLUS_END, out=out)
