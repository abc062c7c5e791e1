"""What the functions of this room accept and return: NumPy arrays and torch tensors."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

NumpyArray = npt.NDArray[Any]
Array = TypeVar("Array", NumpyArray, torch.Tensor)


def floating_tensor(x: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or an integer one in torch's default floating type."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def floating_array(x: NumpyArray) -> NumpyArray:
    """The array itself, or an integer one (or a list) as float64."""
    x = np.asarray(x)
    return x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
