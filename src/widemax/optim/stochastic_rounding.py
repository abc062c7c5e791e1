"""Rounding to bfloat16 that is right on average, so that steps smaller than a bfloat16 can show add up.

Shapes: R rows, K numbers a row.
"""

import numpy as np
import torch
from torch import Tensor

from widemax.errors import UsageError
from widemax.options import checked


@checked
def stochastic_round(values: Tensor, generator: torch.Generator, *, places: Tensor | None = None) -> Tensor:
    """Rounds each number to one of its two bfloat16 neighbors, with probabilities that keep its mean.

    ::

        low ≤ x ≤ high,    P(high) = (x − low) / (high − low),    E[rounded] = x exactly

    A bfloat16 is a float32 without its last 16 bits: adding 16 random bits and cutting them off carries into
    the kept ones just so often. What bfloat16 can show stays as it is, infinities and NaN too. Finite numbers
    beyond the largest bfloat16 become that one, never infinite.

    Args:
        values: float32, any shape.
        generator: of the random bits, on the device of ``values``.
        places: [R] whole numbers, of each row. What a row is rounded to then follows from its own place and
            the generator, whatever other rows are there.

    Returns:
        bfloat16 tensor of the same shape.

    Raises:
        UsageError: values of another dtype.

    Example:
        >>> eighth_of_the_way = torch.full((8000,), 1 + 2**-10)
        >>> rounded = stochastic_round(eighth_of_the_way, torch.Generator().manual_seed(0))
        >>> rounded.unique()
        tensor([1.0000, 1.0078], dtype=torch.bfloat16)
        >>> 900 < (rounded > 1).sum().item() < 1100
        True

    Source: Gupta et al., "Deep Learning with Limited Numerical Precision" (ICML 2015), section 3, equation 1.
    """
    if values.dtype != torch.float32:
        raise UsageError(
            f"values to round must be float32; got {values.dtype}. Convert them with values.float()."
        )
    if places is None:
        bits = random_16_bits(values.numel(), generator).view(values.shape)
    else:
        bits = bits_of_rows(places, values.shape[1:].numel(), generator).view(values.shape)
    rounded = bits.add_(values.view(torch.int32)).bitwise_and_(-(2**16)).view(torch.float32)
    largest = torch.finfo(torch.bfloat16).max
    # A look at them would stall an accelerator.
    if not values.is_cpu or (values.numel() and not values.abs().amax() <= largest):
        rounded = torch.where(values.isfinite(), rounded.clamp_(-largest, largest), values)
    return rounded.to(torch.bfloat16)


def random_16_bits(count: int, generator: torch.Generator) -> Tensor:
    """int32 numbers from [0, 2^16), four from each number of 64 bits that the generator is asked for."""
    numbers = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    numbers.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    return numbers.view(torch.int16)[:count].to(torch.int32).bitwise_and_(2**16 - 1)


def bits_of_rows(places_R: Tensor, num_columns: int, generator: torch.Generator) -> Tensor:
    """[R, K] int32 numbers from [0, 2^16): the upper half of a_k · h(place) + b_k, with random a and b.

    In a row they are independent; in a column any two are almost so.

    Source: Dietzfelbinger, "Universal hashing and k-wise independent random variables via integer arithmetic
        without primes" (STACS 1996), and the multipliers of SplitMix64 for h.
    """
    factor_K, shift_K = column_numbers(num_columns, generator)
    mixed_R = places_R * -0x61C8864680B583EB
    mixed_R = (mixed_R ^ (mixed_R >> 32)) * -0x40A7B892E31B1A47
    hashed_R1 = (mixed_R >> 32).to(torch.int32)[:, None]
    return torch.addcmul(shift_K, hashed_R1, factor_K).bitwise_right_shift_(16).bitwise_and_(2**16 - 1)


def column_numbers(num_columns: int, generator: torch.Generator) -> Tensor:
    """[2, K] the random a and b of :func:`bits_of_rows`."""
    numbers = torch.empty(2, num_columns, dtype=torch.int32, device=generator.device)
    return numbers.random_(-(2**31), 2**31, generator=generator)


def mixed_seed(*numbers: int) -> int:
    """Numbers ≥ 0 as 64 well-mixed bits: what neighboring seeds give is unrelated, as generators require."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
