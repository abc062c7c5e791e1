"""What the functions of this room accept: NumPy arrays and torch tensors, an axis, a mask.

An array is computed with as a tensor, and what is given back is an array again.
"""

from typing import Annotated, Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from widemax.errors import ArgumentError, ShapeError

Array = TypeVar("Array", npt.NDArray[Any], torch.Tensor)
Temperature = Annotated[float, Field(gt=0.0)]


def tensor_of(x: Any, name: str = "x") -> torch.Tensor:
    """A floating-point tensor: the given one, or an array's numbers in float32 or float64.

    An integer tensor becomes one of torch's default type, an integer array (or a list) one of float64.
    """
    if not isinstance(x, torch.Tensor):
        array = _floating_array(x, name)
        # A copy, because torch takes no negative strides, foreign byte orders or arrays that are read-only.
        return torch.from_numpy(np.array(array, np.float32 if array.dtype.itemsize <= 4 else np.float64))
    if x.is_complex():
        _refuse_kind(name, f"a tensor of {x.dtype}")
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def given_as(values: torch.Tensor, *given: Array) -> Array:
    """Values as the kind of array that was given and in its floating-point type, the wider one of several."""
    if isinstance(given[0], torch.Tensor):
        dtype = tensor_of(given[0]).dtype
        for other in given[1:]:
            dtype = torch.promote_types(dtype, tensor_of(other).dtype)
        return values.to(dtype)
    dtypes = [_floating_array(x).dtype for x in given]
    return values.numpy().astype(np.result_type(*dtypes), copy=False)


def _floating_array(x: Any, name: str = "x") -> npt.NDArray[Any]:
    try:
        array = np.asarray(x)
    except ValueError:
        raise ShapeError(f"{name} must have rows of one length; got a ragged {type(x).__name__}.") from None
    if array.dtype.kind == "f":
        return array
    if array.dtype.kind not in "biu":
        _refuse_kind(name, type(x).__name__ if array.dtype == object else f"{array.dtype} data")
    return array.astype(np.float64)


def _refuse_kind(name: str, got: str) -> NoReturn:
    raise ArgumentError(f"{name} must be a NumPy array or torch tensor of real numbers; got {got}.")


def widened_tensor(x: torch.Tensor) -> torch.Tensor:
    """The tensor itself in float32 or float64, anything narrower in float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.to(torch.float32)


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


def mask_of(where: Any, x: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """The mask as a tensor, once it is of the kind of x, boolean, and broadcasts to the shape."""
    if isinstance(x, torch.Tensor):
        if not isinstance(where, torch.Tensor):
            raise ArgumentError(f"where must be a boolean tensor, as x is one; got {type(where).__name__}.")
    elif isinstance(where, torch.Tensor):
        raise ArgumentError("where must be a boolean NumPy array, as x is one; got a tensor.")
    else:
        where = np.array(where)
    if where.dtype not in (torch.bool, np.bool_):
        got = str(where.dtype).removeprefix("torch.")
        raise ArgumentError(f"where must be boolean, true at entries that take part; got {got}.")
    given = tuple(where.shape)
    sizes = zip(reversed(given), reversed(shape), strict=False)
    if len(given) > len(shape) or not all(mask in (1, size) for mask, size in sizes):
        raise ShapeError(
            f"where must broadcast to {tuple(shape)}; got shape {given}. Insert axes of length 1."
        )
    return where if isinstance(where, torch.Tensor) else torch.from_numpy(where)
