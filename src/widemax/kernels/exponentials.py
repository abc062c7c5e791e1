"""e^x where it decides the time."""

import math

from torch import Tensor


def exp_(values: Tensor) -> Tensor:
    """e^x in place, as 2^(x·log₂e): a processor's 2^x takes torch a third of the time of its e^x.

    Args:
        values: float32 or float64, any shape.

    Returns:
        The same tensor; relative error |x| times the rounding error of its dtype, so exact enough for
        probabilities, whose x is below 0 and far below only where they vanish.

    Example:
        >>> import torch
        >>> exp_(torch.tensor([0.0, -1.0, -torch.inf]))
        tensor([1.0000, 0.3679, 0.0000])
    """
    return values.mul_(math.log2(math.e)).exp2_()
