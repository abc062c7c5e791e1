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


def softplus_by_exp(values: Tensor, out: Tensor) -> Tensor:
    """log(1 + e^values) into ``out`` and σ(values) into ``values``, in two thirds of the usual time.

    Where e^values is beyond the numbers, the first is infinite.

    Example:
        >>> logits = torch.tensor([0.0, -torch.inf])
        >>> softplus_by_exp(logits, torch.empty(2)), logits
        (tensor([0.6931, 0.0000]), tensor([0.5000, 0.0000]))
    """
    torch.exp(values, out=out)
    torch.add(out, 1, out=values)
    torch.div(out, values, out=values)
    return out.log1p_()


def softplus_and_sigmoid(values: Tensor, out: Tensor) -> Tensor:
    """The same for any numbers."""
    softplus_into(values, out)
    values.sigmoid_()
    return out


def softplus_into(values: Tensor, out: Tensor) -> Tensor:
    """:func:`widemax.numerics.softplus` into other memory or that of ``values``; without a gradient."""
    softplus: Callable[..., Tensor] = torch.nn.functional.softplus  # torch does not say that it takes out
    return softplus(values, 1.0, SOFTPLUS_END, out=out)
