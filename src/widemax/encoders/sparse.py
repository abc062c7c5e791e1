"""Sparse feature vectors as a bag of rows, never made dense."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from widemax.encoders.base import Dim, encoders
from widemax.encoders.features import Features, Ragged, RaggedTensor, Tensors, beside, entry, list_offsets
from widemax.encoders.keyed import KeyedEncoder
from widemax.errors import DataError

# Several columns share one table: the column's number stands above the bits of its indices.
_INDEX_BITS = 40


def _pairs(values: pa.Array, *, column: str, number: int) -> Ragged:
    pairs = values.flatten()
    indices, numbers = (
        pc.struct_field(pairs, field).to_numpy(zero_copy_only=False) for field in ("index", "value")
    )
    if pairs.null_count or not np.isfinite(numbers).all():
        raise DataError(
            f"values must be finite; column {column!r} has a null, NaN or infinite one. Remove it."
        )
    if len(indices) and not 0 <= indices.min() <= indices.max() < 1 << _INDEX_BITS:
        raise DataError(
            f"indices must lie in [0, 2^{_INDEX_BITS}); column {column!r} has them from {indices.min()} to "
            f"{indices.max()}. Number the features anew."
        )
    return Ragged(
        list_offsets(values), indices.astype(np.int64) + (number << _INDEX_BITS), numbers.astype(np.float32)
    )


@encoders.register("sparse")
class SparseEncoder(KeyedEncoder):
    """Sparse vectors through a linear map: hidden = Σ_i x_i · embedding_i over indices seen in training.

    Args:
        columns: (name, kind) of sparse columns.
        dim: width D of the hidden vector; without it training takes fewer where there are fewer classes.
            "features" for the sparse vector itself.
        normalize: divide each row by its Euclidean length.

    Example:
        >>> import torch
        >>> rows = pa.array([[{"index": 3, "value": 3.0}, {"index": 9, "value": 4.0}]])
        >>> encoder = SparseEncoder([("x", "sparse")], dim=8)
        >>> encoder.fit([encoder.featurize({"x": rows})], generator=torch.Generator())
        >>> encoder.encode({"x": rows})["bag"].values_P.tolist()
        [0.6000000238418579, 0.800000011920929]
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"sparse"})
    waits = frozenset({"unique"})
    table_name = "weight_FD"
    operations = 0  # rows of a table are summed
    counted_options: ClassVar[Mapping[str, Any]] = {"dim": "features"}

    def __init__(self, columns: Sequence[tuple[str, str]], *, dim: Dim = 256, normalize: bool = True) -> None:
        super().__init__(columns, dim=dim)
        self.normalize = normalize

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        parts = [
            _pairs(self.column(columns, name), column=name, number=number)
            for number, (name, _) in enumerate(self.columns)
        ]
        return {"bag": beside(parts)}

    def narrow(self, dim: int) -> None:
        self.dim = min(dim, self.dim)

    def laws(self) -> Iterator[tuple[bool, str]]:
        in_range = (self.keys_F >= 0) & (self.keys_F < len(self.columns) << _INDEX_BITS)
        yield bool(in_range.all()), "keys of its columns"
        yield from super().laws()

    def index(self, features: Features) -> Features:
        bag = entry(super().index(features), "bag", Ragged)
        return {"bag": bag.normalized() if self.normalize else bag}

    def forward(self, features: Tensors) -> Tensor:
        return self.rows.bag_sum(self.weight_FD, entry(features, "bag", RaggedTensor))
