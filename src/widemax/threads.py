"""How many threads torch computes with, and work of compiled kernels that is shared among as many."""

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

WORTH_THREADS = 1e9
"""Operations of a step, some 15 ms of one core, below which threads cost more than they save."""
# So many numbers of weights take half a millisecond, for which a further thread is worth waking.
THREAD_ELEMENTS = 2**21
_PART = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# In a process forked from this one OpenMP would wait for threads that it does not have.
_LOADED_BY = os.getpid()


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


def share(work: Callable[[Any], None], num_elements: int) -> None:
    """Does a work in as many threads as torch may use and it is worth, this one among them.

    Even if this thread is interrupted, none is left to write into memory that is freed.

    Args:
        work: takes the place of the next part.
    """
    place = ctypes.byref(ctypes.c_long(0))
    num_threads = min(torch.get_num_threads(), num_elements // THREAD_ELEMENTS)
    if num_threads < 2:
        work(place)
    elif os.getpid() == _LOADED_BY and (openmp := _openmp()):
        part = _PART(lambda _: work(place))
        try:
            openmp.GOMP_parallel_start(part, None, num_threads)
            work(place)
        finally:
            openmp.GOMP_parallel_end()
    else:
        threads = _threads(num_threads - 1, os.getpid())
        others = [threads.submit(work, place) for _ in range(num_threads - 1)]
        try:
            work(place)
        finally:
            wait([each for each in others if not each.cancel()])  # one not begun has nothing left to do


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """torch's OpenMP: its threads spin for a while after an operation, on cores that others would want."""
    libraries = (Path(torch.__file__).parent / "lib").glob("libgomp*")
    return next((ctypes.CDLL(str(path)) for path in libraries), None)


@functools.cache
def _threads(num: int, process: int) -> ThreadPoolExecutor:
    """They wait for work in a process: new ones begin on the core of their parent, and often end there."""
    return ThreadPoolExecutor(num, thread_name_prefix="widemax-native")
