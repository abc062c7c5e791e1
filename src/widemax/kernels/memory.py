"""What a process does with the memory it asks for and frees."""

import ctypes
import functools
import sys

from torch import Tensor

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**29
LARGE_BYTES = 2**27
# Of Linux's mman.h, and the size of a huge page.
_MADV_HUGEPAGE, HUGE_BYTES = 14, 2**21


def keep_freed_memory() -> bool:
    """Lets this process use freed memory again instead of handing it back to the system.

    A training step frees tens of megabytes and asks for them again. By default the GNU C library returns much
    of it, and new pages cost as much as what is computed in them: half of a sampled step's time. At most
    512 MiB of free memory are kept, and single tensors of 128 MiB, which are tables rather than parts of a
    step, are returned as before.

    Returns:
        Whether the C library took it; on systems without glibc nothing changes.

    Example:
        >>> keep_freed_memory() in (True, False)
        True

    Source: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return bool(set_option(_TRIM_THRESHOLD, KEPT_BYTES)) and bool(set_option(_MMAP_THRESHOLD, LARGE_BYTES))


def in_huge_pages(tensor: Tensor) -> Tensor:
    """Lets new memory come in pages of 2 MiB, in a third of the time of small ones, where Linux gives them.

    Args:
        tensor: contiguous and all to be written: a page that is touched at all is there as a whole.

    Returns:
        The tensor.

    Example:
        >>> import torch
        >>> in_huge_pages(torch.empty(2**20)).shape
        torch.Size([1048576])

    Source: madvise(2), MADV_HUGEPAGE.
    """
    if tensor.is_cpu and sys.platform.startswith("linux"):
        first = -(-tensor.data_ptr() // HUGE_BYTES) * HUGE_BYTES
        num_bytes = (tensor.data_ptr() + tensor.nbytes - first) // HUGE_BYTES * HUGE_BYTES
        if num_bytes > 0:
            _c_library().madvise(ctypes.c_void_p(first), ctypes.c_size_t(num_bytes), _MADV_HUGEPAGE)
    return tensor


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
