"""Images through a small convolutional network.

Shapes: B images, H rows of pixels, W pixels a row, C channels, D hidden.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod, sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from widemax.encoders.base import Encoder, encoders
from widemax.encoders.features import Features, Tensors, entry
from widemax.encoders.mlp import MLP
from widemax.errors import DataError
from widemax.options import AtLeast1

_GRID = 8  # larger maps are averaged down, so that the next layer stays small whatever the size of the images
PIXELS_AT_ONCE = 1 << 20  # seen together where no gradient is wanted, whatever the number of rows


def _pixels(images: pa.Array, *, column: str) -> npt.NDArray[np.uint8]:
    if images.null_count:
        raise DataError(
            f"images must be complete; column {column!r} has {images.null_count} nulls. Drop those rows."
        )
    flat = images.storage.flatten().to_numpy().copy()  # Arrow's own memory cannot become a tensor
    pixels: npt.NDArray[np.uint8] = flat.reshape(-1, *images.type.shape)
    return pixels


def augment(pixels_BHWC: Tensor, *, shift: int, flip: bool) -> Tensor:
    """Each image moved by up to ``shift`` pixels both ways, its edge repeated, and mirrored half of the time.

    Randomness is torch's global generator.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> augment(torch.arange(3).reshape(1, 1, 3, 1), shift=1, flip=False).flatten().tolist()
        [0, 0, 1]
    """
    if not shift and not flip:
        return pixels_BHWC
    num_rows, height, width, _ = pixels_BHWC.shape
    moves_2B1 = torch.randint(-shift, shift + 1, (2, num_rows, 1), device=pixels_BHWC.device)
    rows_BH = (torch.arange(height, device=pixels_BHWC.device) + moves_2B1[0]).clamp(0, height - 1)
    columns_BW = (torch.arange(width, device=pixels_BHWC.device) + moves_2B1[1]).clamp(0, width - 1)
    if flip:
        mirrored_B1 = torch.rand(num_rows, 1, device=pixels_BHWC.device) < 0.5
        columns_BW = torch.where(mirrored_B1, width - 1 - columns_BW, columns_BW)
    each_B = torch.arange(num_rows, device=pixels_BHWC.device)
    return pixels_BHWC[each_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]


@encoders.register("image")
class ImageEncoder(Encoder):
    """Images through convolutions: x ← relu(maxpool(W * x + b)) for each block, then hidden = MLP(x).

    Pixels are standardized by the mean and standard deviation of their channel in training. A block halves
    height and width; what is then still larger than 8 × 8 is averaged down to that.

    Args:
        columns: (name, kind) of image columns of one height and width, whose channels are stacked.
        dim: width D of the hidden vector.
        channels: number of filters of each block.
        kernel: height and width of the filters.
        hidden: widths of the hidden layers after the blocks.
        dropout: probability of dropping one of their units in training.
        flip: mirror images left to right at random in training.
        shift: move images by up to so many pixels, up or down and left or right, at random in training.

    Example:
        >>> from widemax.encoders import to_tensors
        >>> kind = pa.fixed_shape_tensor(pa.uint8(), (2, 2, 1))
        >>> digits = pa.ExtensionArray.from_storage(kind, pa.array([[0, 9, 9, 0]], pa.list_(pa.uint8(), 4)))
        >>> encoder = ImageEncoder([("digit", "image")], dim=3)
        >>> encoder.fit([encoder.featurize({"digit": digits})], generator=torch.Generator())
        >>> encoder(to_tensors(encoder.encode({"digit": digits}))).shape
        torch.Size([1, 3])
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    optimizer = "lazy_adam"
    learning_rate = 1e-3

    shape_3: Tensor
    mean_C: Tensor
    scale_C: Tensor

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: AtLeast1 = 256,
        channels: tuple[AtLeast1, ...] = (16, 32),
        kernel: Literal[1, 3, 5, 7] = 5,
        hidden: tuple[AtLeast1, ...] = (256,),
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        flip: bool = False,
        shift: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(columns, dim=dim)
        self.channels, self.kernel, self.hidden = channels, kernel, hidden
        self.dropout, self.flip, self.shift = dropout, flip, shift
        fan_ins = (0, *channels[:-1])  # the channels of the images are not known yet
        self.filters = nn.ParameterList(
            nn.Parameter(torch.empty(width, fan_in, kernel, kernel))
            for width, fan_in in zip(channels, fan_ins, strict=True)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in channels)
        self.mlp = MLP((*hidden, dim), dropout=dropout)
        self.register_buffer("shape_3", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("mean_C", torch.empty(0, dtype=torch.float64))
        self.register_buffer("scale_C", torch.empty(0, dtype=torch.float64))

    @property
    def operations(self) -> int:
        """Multiplications of a row in `forward`."""
        num_pixels = int(self.shape_3[0] * self.shape_3[1])
        filters = enumerate(self.filters)  # each block halves height and width
        convolutions = sum(int(weight.numel()) * num_pixels >> 2 * block for block, weight in filters)
        return convolutions + sum(weight.numel() for weight in self.mlp.parameters())

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        return {name: _pixels(self.column(columns, name), column=name) for name, _ in self.columns}

    def begin(self) -> None:
        self._counts_CV: npt.NDArray[np.int64] | int = 0  # how often each channel has each value of a byte

    def observe(self, features: Features) -> None:
        pixels_BHWC = self._stacked(features)
        self._shape = pixels_BHWC.shape[1:]
        channels = np.moveaxis(pixels_BHWC, 3, 0)
        self._counts_CV += np.stack([np.bincount(values.ravel(), minlength=256) for values in channels])

    def finish(self, *, generator: torch.Generator) -> None:
        height, width, fan_in = self._shape
        self.shape_3 = torch.tensor(self._shape)
        share_CV = self._counts_CV / np.sum(self._counts_CV, axis=1, keepdims=True)
        mean_C = share_CV @ np.arange(256)
        spread_C = np.sqrt((share_CV * (np.arange(256) - mean_C[:, None]) ** 2).sum(axis=1))
        self.mean_C = torch.from_numpy(mean_C)
        self.scale_C = torch.from_numpy(np.where(spread_C > 0, spread_C, 1.0))
        for block, num_filters in enumerate(self.channels):
            weight = torch.randn(num_filters, fan_in, self.kernel, self.kernel, generator=generator)
            self.filters[block] = nn.Parameter(weight * sqrt(2 / (fan_in * self.kernel**2)))
            nn.init.zeros_(self.biases[block])
            height, width, fan_in = -(-height // 2), -(-width // 2), num_filters
        self.mlp.initialize(min(height, _GRID) * min(width, _GRID) * fan_in, generator=generator)

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield self.shape_3.shape == (3,) and bool((self.shape_3 > 0).all()), "height, width and channels"
        height, width, channels = self.shape_3.tolist()
        yield len(self.mean_C) == len(self.scale_C) == channels, "a mean and a scale for each channel"
        yield bool((self.scale_C > 0).all()), "scales above 0"
        for weight in self.filters:
            yield weight.shape[1] == channels, f"filters of {channels} channels"
            height, width, channels = -(-height // 2), -(-width // 2), len(weight)
        yield from self.mlp.laws(min(height, _GRID) * min(width, _GRID) * channels)

    def prepare(self) -> None:
        """Nothing is looked up: pixels stay bytes until `forward`."""

    def index(self, features: Features) -> Features:
        pixels_BHWC = self._stacked(features)
        shape = tuple(self.shape_3.tolist())
        if pixels_BHWC.shape[1:] != shape:
            raise DataError(
                f"images must be of height, width and channels {shape} as in training; "
                f"got {pixels_BHWC.shape[1:]}."
            )
        return {"image": pixels_BHWC}

    def forward(self, features: Tensors) -> Tensor:
        pixels_BHWC = entry(features, "image", Tensor)
        if self.training:
            pixels_BHWC = augment(pixels_BHWC, shift=self.shift, flip=self.flip)
        if torch.is_grad_enabled():
            return self._hidden(pixels_BHWC)
        parts = torch.split(pixels_BHWC, max(1, PIXELS_AT_ONCE // prod(pixels_BHWC.shape[1:])))
        return torch.cat([self._hidden(part) for part in parts])

    def _stacked(self, features: Features) -> npt.NDArray[np.uint8]:
        """The images of all columns as one of all their channels."""
        arrays = [entry(features, name, np.ndarray) for name, _ in self.columns]
        sizes = {array.shape[1:3] for array in arrays}
        if len(sizes) > 1:
            raise DataError(
                f"the image columns must be of one height and width; got {sorted(sizes)}. Resize them."
            )
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=3)

    def _hidden(self, pixels_BHWC: Tensor) -> Tensor:
        standard_BHWC = (pixels_BHWC - self.mean_C.float()) / self.scale_C.float()
        maps_BCHW = standard_BHWC.permute(0, 3, 1, 2)  # in memory the channels stay last, which is fast
        for weight, bias in zip(self.filters, self.biases, strict=True):
            maps_BCHW = F.conv2d(maps_BCHW, weight, bias, padding=self.kernel // 2)
            # Pooling first leaves a quarter for relu; the result is the same.
            maps_BCHW = F.max_pool2d(maps_BCHW, 2, ceil_mode=True).relu()
        height, width = maps_BCHW.shape[2:]
        if max(height, width) > _GRID:
            maps_BCHW = F.adaptive_avg_pool2d(maps_BCHW, (min(height, _GRID), min(width, _GRID)))
        hidden_BD: Tensor = self.mlp(maps_BCHW.flatten(1))
        return hidden_BD
