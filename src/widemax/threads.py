"""How many threads torch computes with, for as long as a block of code lasts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORTH_THREADS = 1e9
"""Operations of a step, some 15 ms of one core, below which threads cost more than they save."""


def threads_for(operations: float) -> int:
    """One thread for a small step; as many as torch has now for a larger one.

    The choice follows the sizes alone and never a measurement: the same data train to the same bits.

    Example:
        >>> threads_for(1e6)
        1
    """
    return 1 if operations < WORTH_THREADS else torch.get_num_threads()


@contextmanager
def using_threads(number: int) -> Iterator[None]:
    """Compute with this many threads, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
