"""What the functions of this room accept: NumPy arrays and torch tensors, an axis, a mask."""

from typing import Annotated, Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from widemax.errors import ArgumentError, ShapeError

NumpyArray = npt.NDArray[Any]
Array = TypeVar("Array", NumpyArray, torch.Tensor)
Temperature = Annotated[float, Field(gt=0.0)]


def floating_tensor(x: torch.Tensor, name: str = "x") -> torch.Tensor:
    """The tensor itself, or an integer one in torch's default floating type."""
    if x.is_floating_point():
        return x
    if x.is_complex():
        _refuse_kind(name, f"a tensor of {x.dtype}")
    return x.to(torch.get_default_dtype())


def floating_array(x: NumpyArray, name: str = "x") -> NumpyArray:
    """The array itself, or an integer one (or a list) as float64."""
    given = x
    try:
        x = np.asarray(x)
    except ValueError:
        raise ShapeError(
            f"{name} must have rows of one length; got a ragged {type(given).__name__}."
        ) from None
    if x.dtype.kind == "f":
        return x
    if x.dtype.kind not in "biu":
        _refuse_kind(name, type(given).__name__ if x.dtype == object else f"{x.dtype} data")
    return x.astype(np.float64)


def _refuse_kind(name: str, got: str) -> NoReturn:
    raise ArgumentError(f"{name} must be a NumPy array or torch tensor of real numbers; got {got}.")


def widened_tensor(x: torch.Tensor) -> torch.Tensor:
    """The tensor itself in float32 or float64, anything narrower in float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.to(torch.float32)


def widened_array(x: NumpyArray) -> NumpyArray:
    """The array itself, or a 16-bit one as float32."""
    return x if x.dtype.itemsize >= 4 else x.astype(np.float32)


def is_transformed() -> bool:
    """Whether torch.func differentiates or maps what is computed now."""
    return torch._C._are_functorch_transforms_active()


def is_traced() -> bool:
    """Whether torch.func or torch.compile stands between calls and numbers, so that none can be looked at."""
    return torch.compiler.is_compiling() or is_transformed()


def check_same_kind(**arrays: object) -> None:
    """Refuse a mixture of tensors and arrays."""
    if len({isinstance(array, torch.Tensor) for array in arrays.values()}) > 1:
        kinds = ", ".join(f"{name}: {type(array).__name__}" for name, array in arrays.items())
        raise ArgumentError(f"{' and '.join(arrays)} must all be arrays or all be tensors; got {kinds}.")


def check_axis(axis: int, shape: tuple[int, ...]) -> None:
    """Refuse an axis that the shape does not have."""
    ndim = len(shape)
    if ndim == 0:
        raise ShapeError("x must have at least one axis; got a single number. Pass x.reshape(1).")
    if not -ndim <= axis < ndim:
        raise ShapeError(f"axis must lie in [{-ndim}, {ndim}) for x of shape {tuple(shape)}; got {axis}.")


def tensor_mask(where: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The mask, once it is a boolean tensor that broadcasts to the shape."""
    if not isinstance(where, torch.Tensor):
        raise ArgumentError(f"where must be a boolean tensor, as x is one; got {type(where).__name__}.")
    _check_mask(str(where.dtype).removeprefix("torch."), where.shape, shape)
    return where


def array_mask(where: NumpyArray, shape: tuple[int, ...]) -> NumpyArray:
    """The mask as an array, once it is boolean and broadcasts to the shape."""
    if isinstance(where, torch.Tensor):
        raise ArgumentError("where must be a boolean NumPy array, as x is one; got a tensor.")
    where = np.asarray(where)
    _check_mask(str(where.dtype), where.shape, shape)
    return where


def _check_mask(dtype: str, mask_shape: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if dtype != "bool":
        raise ArgumentError(f"where must be boolean, true at entries that take part; got {dtype}.")
    sizes = zip(reversed(mask_shape), reversed(shape), strict=False)
    if len(mask_shape) > len(shape) or not all(mask in (1, size) for mask, size in sizes):
        raise ShapeError(
            f"where must broadcast to {tuple(shape)}; got shape {tuple(mask_shape)}. Insert axes of length 1."
        )
