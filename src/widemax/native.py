"""The compiled kernels of the distribution widemax-native, where installed and the processor can run them.

All that they do torch does too, in more time. ``WIDEMAX_NATIVE=0`` in the environment leaves them unused.

Shapes: B rows, D dimensions, W classes or codes, G blocks of 64 of them.
"""

import ctypes
import functools
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from widemax.errors import ConfigError

ABI = 2
BLOCK = 64
# Rows that share a pass over the weights; torch's products of more are as fast.
MOST_ROWS = 16
# So many numbers of weights take half a millisecond, for which a further thread is worth waking.
THREAD_ELEMENTS = 2**21
# So many are a part of the work, which threads take one after another.
PART_ELEMENTS = 2**18


@functools.cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The library, and what is to be said about it."""
    spec = importlib.util.find_spec("widemax_native")
    if spec is None or spec.origin is None:
        return None, "not installed"
    found = ctypes.CDLL(spec.origin)
    abi = found.widemax_native_abi()
    if abi == 0:
        return None, "installed, but this processor lacks AVX-512 with VNNI"
    if abi != ABI:
        return None, "installed in another version than widemax: install both from the same source"
    pointer, number = ctypes.c_void_p, ctypes.c_long
    found.widemax_products.argtypes = [*[pointer] * 3, *[number] * 4, pointer, number, pointer]
    found.widemax_code_products.argtypes = [*[pointer] * 3, *[number] * 4, *[pointer] * 2, number, pointer]
    found.widemax_blocks.argtypes = [pointer, number, number, ctypes.c_int, *[pointer] * 5]
    return found, "used"


def state() -> str:
    """Whether the kernels are used, or why not."""
    return "ignored, as WIDEMAX_NATIVE=0 says" if _is_ignored() else library()[1]


def _is_ignored() -> bool:
    asked = os.environ.get("WIDEMAX_NATIVE", "1")
    if asked not in ("0", "1"):
        raise ConfigError(f"the environment's WIDEMAX_NATIVE must be 0 or 1; got {asked!r}.")
    return asked == "0"


def _kernels() -> Any:
    return None if _is_ignored() else library()[0]


def takes(*matrices: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the kernels are there and can read these matrices."""
    return _kernels() is not None and all(
        x.dtype == dtype and x.is_cpu and x.is_contiguous() for x in matrices
    )


def products_into(hidden_BD: Tensor, weight_WD: Tensor, bias_W: Tensor | None, out_BW: Tensor) -> None:
    """hidden Wᵀ + bias of at most 16 rows, which equal classes get bit for bit alike.

    Args:
        out_BW: may be part of wider rows.
    """
    kernels, (num_classes, dim) = _kernels(), weight_WD.shape
    padded_BD = _padded(hidden_BD, 16, full_rows=2)
    arguments = (
        *(padded_BD.data_ptr(), weight_WD.data_ptr(), None if bias_W is None else bias_W.data_ptr()),
        *(len(hidden_BD), num_classes, dim, out_BW.stride(0), out_BW.data_ptr(), _part(dim)),
    )
    _share(lambda place: kernels.widemax_products(*arguments, place), weight_WD.numel())


def code_products(query_BD: Tensor, codes_WD: Tensor, out_BW: Tensor) -> Tensor:
    """[B, G] the largest product of each block of codes with at most 16 queries; all into ``out_BW``."""
    kernels, (num_codes, dim) = _kernels(), codes_WD.shape
    padded_BD = _padded(query_BD, 64, full_rows=1)
    offset_B = padded_BD.sum(1, dtype=torch.int32).mul_(128)
    maxima_BG = out_BW.new_empty(len(query_BD), num_codes // BLOCK)
    arguments = (
        *(padded_BD.data_ptr(), codes_WD.data_ptr(), offset_B.data_ptr()),
        *(len(query_BD), num_codes, dim, out_BW.stride(0)),
        *(out_BW.data_ptr(), maxima_BG.data_ptr(), _part(dim)),
    )
    _share(lambda place: kernels.widemax_code_products(*arguments, place), codes_WD.numel())
    return maxima_BG


def block_maxima(
    logits_BW: Tensor, shift_B: Tensor, sum_B: Tensor, square_sum_B: Tensor, *, powers: int
) -> Tensor:
    """[B, G] the largest logit of each block, which with the sums of powers are added to what is given.

    Args:
        shift_B: the largest logit so far.
        sum_B: float64 Σ exp(s − shift) so far.
        square_sum_B: float64 Σ exp(2 (s − shift)) so far.
        powers: 0 leaves the three as they are, 1 the last.
    """
    kernels, (num_rows, width) = _kernels(), logits_BW.shape
    maxima_BG = logits_BW.new_empty(num_rows, width // BLOCK)

    arguments = (
        *(logits_BW.data_ptr(), num_rows, width, powers),
        *(x.data_ptr() for x in (maxima_BG, shift_B, sum_B, square_sum_B)),
    )
    _share(lambda place: kernels.widemax_blocks(*arguments, place), logits_BW.numel())
    return maxima_BG


def _padded(rows_BD: Tensor, columns: int, *, full_rows: int) -> Tensor:
    """With zeros up to whole groups of columns, and of 4 rows unless there are at most ``full_rows``."""
    num_rows, dim = rows_BD.shape
    more_rows = 0 if num_rows <= full_rows else -num_rows % 4
    return nn.functional.pad(rows_BD, (0, -dim % columns, 0, more_rows)).contiguous()


def _part(dim: int) -> int:
    """Classes of a part: whole blocks."""
    return BLOCK * max(1, PART_ELEMENTS // (BLOCK * dim))


def _share(work: Callable[[Any], None], num_elements: int) -> None:
    """Does a work in as many threads as torch may use and it is worth, this one among them.

    Args:
        work: takes the place of the next part.
    """
    place = ctypes.byref(ctypes.c_long(0))
    num_more = min(torch.get_num_threads(), num_elements // THREAD_ELEMENTS) - 1
    more = [_threads(num_more).submit(work, place) for _ in range(num_more)]
    work(place)
    for each in more:
        if not each.cancel():  # one that has not begun has nothing left to do
            each.result()


@functools.cache
def _threads(num: int) -> ThreadPoolExecutor:
    """Threads that wait for work: new ones begin on the core of their parent, and often end there."""
    return ThreadPoolExecutor(num, thread_name_prefix="widemax-native")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has no threads of its parent
