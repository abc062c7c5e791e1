"""Whole numbers in their order. Shapes: N numbers, U distinct ones."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def ascending(numbers: Tensor) -> Tensor:
    """[N] int64 numbers in their order: the tensor itself where they are.

    On a CPU in a tenth of the time that torch's sort takes.

    Example:
        >>> ascending(torch.tensor([7, 2, 7]))
        tensor([2, 7, 7])
    """
    if not numbers.is_cpu:
        return numbers.sort().values
    is_ordered = bool((numbers[1:] >= numbers[:-1]).all())
    return numbers if is_ordered else torch.from_numpy(np.sort(numbers.numpy()))


class Distinct(NamedTuple):
    """The distinct ones of some numbers.

    Attributes:
        numbers_U: each once, in their order.
        first_U: where each stood first.
        places_N: which of them each number is.
    """

    numbers_U: Tensor
    first_U: Tensor
    places_N: Tensor


def distinct(numbers: Tensor) -> Distinct:
    """The distinct ones of [N] numbers ≥ 0, of which N times the largest must be below 2⁶².

    On a CPU in a fifth of the time that torch.unique takes.

    Example:
        >>> distinct(torch.tensor([7, 2, 7])).first_U
        tensor([1, 0])
    """
    places_N = torch.arange(len(numbers), device=numbers.device)
    if not numbers.is_cpu:  # where one wait is better than two
        numbers_U, which_N = torch.unique(numbers, return_inverse=True)
        first_U = torch.full_like(numbers_U, len(numbers)).scatter_reduce(0, which_N, places_N, "amin")
        return Distinct(numbers_U, first_U, which_N)
    num_bits = len(numbers).bit_length()
    keys_N = ascending(numbers << num_bits | places_N)
    ordered_N, order_N = keys_N >> num_bits, keys_N & 2**num_bits - 1
    is_first_N = torch.ones_like(ordered_N, dtype=torch.bool)
    torch.ne(ordered_N[1:], ordered_N[:-1], out=is_first_N[1:])
    places_N.index_copy_(0, order_N, is_first_N.cumsum(0) - 1)
    return Distinct(ordered_N[is_first_N], order_N[is_first_N], places_N)
