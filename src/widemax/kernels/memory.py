"""What a process does with the memory it frees."""

import ctypes

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**29
LARGE_BYTES = 2**27


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
