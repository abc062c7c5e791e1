"""What torch's autocast asks of functions that torch does not know."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def autocast_dtype(like: Tensor) -> torch.dtype:
    """The dtype in which torch would take a product of this tensor: its own, or that of autocast.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     autocast_dtype(torch.ones(1)), autocast_dtype(torch.ones(1, dtype=torch.float64))
        (torch.bfloat16, torch.float64)
    """
    device_type = like.device.type
    if like.dtype == torch.float64 or not _is_available(like) or not torch.is_autocast_enabled(device_type):
        return like.dtype
    return torch.get_autocast_dtype(device_type)


def without_autocast(like: Tensor) -> AbstractContextManager[Any]:
    """A context in which products are taken in the dtypes that they are given in."""
    return torch.autocast(like.device.type, enabled=False) if _is_available(like) else nullcontext()


def _is_available(like: Tensor) -> bool:
    """Whether the device knows autocast, as meta does not."""
    return torch.amp.is_autocast_available(like.device.type)
