"""e^x where it decides the time."""

import math

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)


def exp_minus_(values: Tensor, shift: Tensor) -> Tensor:
    """e^(values − shift) in place, as a power of 2: torch takes a third of the time for it.

    The exponent is one fused multiplication and addition, so that it is as exact as a subtraction.

    Args:
        values: [B, N] in float32 or float64.
        shift: [B] finite numbers of the same dtype.

    Returns:
        The same tensor. A result errs by |log result| roundings of its dtype, which shows only where
        probabilities vanish.

    Example:
        >>> exp_minus_(torch.tensor([[5.0, 4.0, -torch.inf]]), torch.tensor([5.0]))
        tensor([[1.0000, 0.3679, 0.0000]])
    """
    return torch.add(shift[:, None] * -LOG2_E, values, alpha=LOG2_E, out=values).exp2_()
