"""Vectors of a fixed size, such as pixels or embeddings, through a multilayer perceptron."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from widemax.encoders.base import Encoder, encoders
from widemax.encoders.features import Features, Tensors, entry
from widemax.encoders.mlp import MLP
from widemax.encoders.spread import Float, RowSample, drawn_in, squashed
from widemax.errors import DataError
from widemax.options import AtLeast1


def _matrix(vectors: pa.Array, *, column: str) -> npt.NDArray[np.float32]:
    if vectors.null_count:
        raise DataError(
            f"vectors must be complete; column {column!r} has {vectors.null_count} nulls. Drop those rows."
        )
    flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if not np.isfinite(flat).all():
        raise DataError(
            f"vectors must be finite; column {column!r} has a null, NaN or infinity. Drop those rows."
        )
    matrix: npt.NDArray[np.float32] = flat.reshape(len(vectors), vectors.type.list_size)
    return matrix


def _mean_and_scale(rows_RN: Float) -> Float:
    """[2, N] the mean of each component, and one scale for all, 1 where none varies."""
    mean_N = rows_RN.mean(axis=0)
    variance = np.square(rows_RN - mean_N).mean()
    # Rounding leaves a constant component with a deviation of a few times 1e-16 of its mean.
    is_constant = variance <= 1e-28 * np.square(mean_N).mean()
    return np.stack([mean_N, np.full_like(mean_N, 1.0 if is_constant else np.sqrt(variance))])


@encoders.register("vector")
class VectorEncoder(Encoder):
    """Fixed-size vectors through a multilayer perceptron: hidden = MLP(y / √(1 + (y / 10)²)).

    y = (x − mean) / scale. The mean is of each component, the scale one for the whole column: the root mean
    square distance from the mean. Components that hardly ever vary, such as the pixels of a margin, thus stay
    small. Both are taken once the largest and the smallest twentieth of each component are drawn in, so that
    a few numbers that are far off leave the others where they are.

    Args:
        columns: (name, kind) of vector columns, which are laid side by side.
        dim: width D of the hidden vector.
        hidden: widths of the hidden layers; none makes the encoder linear.
        dropout: probability of dropping a hidden unit in training.

    Example:
        >>> pixels = pa.FixedSizeListArray.from_arrays(pa.array([0.0, 1.0, 2.0, 1.0], pa.float32()), 2)
        >>> encoder = VectorEncoder([("pixels", "vector")], dim=8)
        >>> encoder.fit([encoder.featurize({"pixels": pixels})], generator=torch.Generator())
        >>> encoder.encode({"pixels": pixels})["vector"].round(4)
        array([[-1.4003,  0.    ],
               [ 1.4003,  0.    ]], dtype=float32)
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"vector"})
    optimizer = "lazy_adam"
    learning_rate = 2e-3

    middle_N: Tensor
    spread_N: Tensor

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: AtLeast1 = 256,
        hidden: tuple[AtLeast1, ...] = (512, 512),
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(columns, dim=dim)
        self.hidden = hidden
        self.dropout = dropout
        self.mlp = MLP((*hidden, dim), dropout=dropout)
        self.register_buffer("middle_N", torch.empty(0, dtype=torch.float64))
        self.register_buffer("spread_N", torch.empty(0, dtype=torch.float64))

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        return {name: _matrix(self.column(columns, name), column=name) for name, _ in self.columns}

    def begin(self) -> None:
        self._samples = {name: RowSample() for name, _ in self.columns}

    def observe(self, features: Features) -> None:
        for name, sample in self._samples.items():
            sample.update(entry(features, name, np.ndarray))

    def finish(self, *, generator: torch.Generator) -> None:
        columns = [_mean_and_scale(drawn_in(sample.rows())) for sample in self._samples.values()]
        self.middle_N, self.spread_N = torch.from_numpy(np.concatenate(columns, axis=1)).unbind()
        self.mlp.initialize(len(self.middle_N), generator=generator)

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield len(self.spread_N) == len(self.middle_N), "a spread for each component"
        yield bool((self.spread_N > 0).all()), "spreads above 0"
        yield from self.mlp.laws(len(self.middle_N))

    def prepare(self) -> None:
        self._middle_N = self.middle_N.cpu().numpy()
        self._spread_N = self.spread_N.cpu().numpy()

    def index(self, features: Features) -> Features:
        vector_BN = np.concatenate([entry(features, name, np.ndarray) for name, _ in self.columns], axis=1)
        if vector_BN.shape[1] != len(self._middle_N):
            raise DataError(
                f"vectors must have {len(self._middle_N)} numbers as in training; got {vector_BN.shape[1]}."
            )
        scaled_BN = squashed(vector_BN, self._middle_N, self._spread_N)
        return {"vector": scaled_BN.astype(np.float32)}

    def forward(self, features: Tensors) -> Tensor:
        hidden_BD: Tensor = self.mlp(entry(features, "vector", Tensor))
        return hidden_BD
