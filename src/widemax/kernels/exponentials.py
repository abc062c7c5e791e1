"""e^x, and log(1 + e^x), in memory at hand, where they decide the time."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from widemax.numerics.sigmoid import SOFTPLUS_END

LOG2_E = math.log2(math.e)


def exp_minus(values: Tensor, shift: Tensor, *, out: Tensor) -> Tensor:
    """e^(values − shift) into ``out``, which may be ``values``, as a power of 2: torch computes it faster.

    The shift is taken before anything is multiplied: two large numbers that are equal leave exactly 0.

    Returns:
        ``out``. A result errs by |log result| roundings of its dtype, which shows only where probabilities
        vanish.

    Example:
        >>> logits = torch.tensor([[5.0, 4.0, -torch.inf]])
        >>> exp_minus(logits, torch.tensor([5.0]), out=logits)
        tensor([[1.0000, 0.3679, 0.0000]])
    """
    return torch.sub(values, shift[:, None], out=out).mul_(LOG2_E).exp2_()


def softplus_into(values: Tensor, out: Tensor) -> Tensor:
    """:func:`widemax.numerics.softplus` into other memory or that of ``values``; without a gradient."""
    softplus: Callable[..., Tensor] = torch.nn.functional.softplus  # torch does not say that it takes out
    return softplus(values, 1.0, SOFTPLUS_END, out=out)
