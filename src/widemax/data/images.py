"""Images as Arrow tensors of bytes, whose type carries height, width and channels.

Letters: B images, H rows of pixels, W pixels a row, C channels: 1 for gray, 3 for red, green and blue.
"""

from math import prod
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

_Size = Annotated[int, Field(ge=1, le=1 << 15)]
Shape = tuple[_Size, _Size, _Size]
_MOST_CHANNELS = 4  # a larger last axis is the width of an image whose channels come first


def image_array(pixels_BHWC: npt.NDArray[np.uint8]) -> Any:
    """The Arrow array [B] of some images.

    Example:
        >>> image_array(np.zeros((5, 28, 28, 1), np.uint8)).type.shape
        [28, 28, 1]
    """
    shape = pixels_BHWC.shape[1:]
    flat = pa.array(np.ascontiguousarray(pixels_BHWC).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, prod(shape))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), shape), storage)


def tensor_shape(kind: pa.DataType) -> Shape | None:
    """(H, W, C) of the images a column holds, by its type; None where it holds none."""
    if not isinstance(kind, pa.FixedShapeTensorType) or not pa.types.is_uint8(kind.value_type):
        return None
    return None if kind.permutation else _shape(tuple(kind.shape))


def nested_shape(values: Any) -> Shape | None:
    """(H, W, C) of the first image in a column of nested lists; None where it is no image."""
    rows = values.drop_null()
    try:
        return _shape(np.shape(rows[0].as_py())) if len(rows) else None
    except ValueError:  # rows of different lengths
        return None


def _shape(sizes: tuple[int, ...]) -> Shape | None:
    if len(sizes) not in (2, 3) or 0 in sizes:
        return None
    height, width, channels = (*sizes, 1)[:3]
    return (height, width, channels) if channels <= _MOST_CHANNELS else None
