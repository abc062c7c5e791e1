"""What the functions of this room accept: NumPy arrays and torch tensors, an axis, a mask, keywords."""

import functools
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from widemax.errors import ArgumentError, ShapeError, UsageError, did_you_mean

NumpyArray = npt.NDArray[Any]
Array = TypeVar("Array", NumpyArray, torch.Tensor)
Function = TypeVar("Function", bound=Callable[..., Any])

# Names of other libraries for keywords of this room.
FOREIGN_KEYWORDS = {
    "dim": "axis",
    "axes": "axis",
    "mask": "where",
    "attn_mask": "where",
    "tau": "temperature",
    "rng": "generator",
}


def explain_keywords(function: Function) -> Function:
    """The same function, whose error at a wrong call says how to call it."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            advice = _advice(function.__name__, signature, len(args), list(kwargs))
            if advice is None:
                raise
            raise ArgumentError(advice) from None

    return cast(Function, call)


def _advice(name: str, signature: inspect.Signature, num_args: int, keywords: list[str]) -> str | None:
    parameters = signature.parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    for word in keywords:
        if word not in signature.parameters:
            near = FOREIGN_KEYWORDS.get(word)
            hint = f"did you mean {near!r}?" if near in allowed else did_you_mean(word, allowed)
            return f"{name} has no keyword {word!r}; {hint}"
    if num_args > len(positional):
        return (
            f"{name} takes only {' and '.join(positional)} by position; got {num_args} positional arguments. "
            f"Pass the others by keyword: {', '.join(allowed)}."
        )
    return None


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
    """Refuse whatever is not one axis of the shape."""
    ndim = len(shape)
    if type(axis) is int and -ndim <= axis < ndim:
        return
    if isinstance(axis, tuple | list):
        raise ArgumentError(
            f"axis must be a single int; got {axis}. Make those axes one first, e.g. x.reshape(len(x), -1)."
        )
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise ArgumentError(f"axis must be an int; got {axis!r}.")
    if ndim == 0:
        raise ShapeError("x must have at least one axis; got a single number. Pass x.reshape(1).")
    if not -ndim <= operator.index(axis) < ndim:
        raise ShapeError(f"axis must lie in [{-ndim}, {ndim}) for x of shape {tuple(shape)}; got {axis}.")


def check_temperature(temperature: float) -> None:
    """Refuse a divisor that is not a finite number above 0."""
    if not isinstance(temperature, float | int | np.floating | np.integer):
        raise ArgumentError(f"temperature must be a number; got {type(temperature).__name__}.")
    if not 0 < temperature < math.inf:
        raise UsageError(f"temperature must be a finite number above 0; got {temperature}.")


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
