"""A history of items as the average of their embeddings."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from widemax.encoders.bag import rows_of
from widemax.encoders.base import Dim, encoders
from widemax.encoders.features import Features, Ragged, RaggedTensor, Tensors, entry, list_offsets
from widemax.encoders.hashing import salt, stable_keys
from widemax.encoders.keyed import KeyedEncoder
from widemax.options import AtLeast1


@encoders.register("history")
class HistoryEncoder(KeyedEncoder):
    """Items seen so far as a weighted average: hidden = Σ_i w_i · embedding_i / norm(w).

    The weight of an item is recency^(its distance from the end of the history). Items not seen in training
    add nothing. norm is Σ w for "mean", 1 for "sum" and √Σ w² for "sqrt".

    Args:
        columns: (name, kind) of columns of item ids, oldest first; each is pooled, and the results added up.
        dim: width D of the hidden vector; "features" for the items themselves, a sparse vector.
        pooling: how the weighted sum is normalised.
        recency: weight of an item relative to the one after it; None weights all alike.
        dropout: probability of leaving an item out in training; lets a history predict its own items.
        max_length: latest items kept; None keeps all.

    Source: Covington, Adams and Sargin, "Deep neural networks for YouTube recommendations", RecSys 2016,
    section 3.

    Example:
        >>> histories = pa.array([[7, 8], [8], None], pa.large_list(pa.int64()))
        >>> encoder = HistoryEncoder([("seen", "ids")], dim=4, recency=0.5)
        >>> encoder.fit([encoder.featurize({"seen": histories})], generator=torch.Generator())
        >>> encoder.encode({"seen": histories})["seen"].values_P.tolist()
        [0.5, 1.0, 1.0]
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"ids"})
    waits = frozenset({"unique", "select"})
    table_name = "weight_FD"
    operations = 0  # rows of a table are summed
    counted_options: ClassVar[Mapping[str, Any]] = {"dim": "features", "recency": 0.8}

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: Dim = 128,
        pooling: Literal["mean", "sum", "sqrt"] = "mean",
        recency: Annotated[float, Field(gt=0, le=1)] | None = None,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        max_length: AtLeast1 | None = None,
    ) -> None:
        super().__init__(columns, dim=dim)
        self.pooling, self.recency, self.dropout, self.max_length = pooling, recency, dropout, max_length
        self.fades = recency not in (None, 1.0)

    def _bag(self, histories: pa.Array, *, column: str) -> Ragged:
        keys_P = stable_keys(histories.flatten(), salt=salt(column, "item"))
        bag = Ragged(list_offsets(histories), keys_P, np.ones(len(keys_P), dtype=np.float32))
        distance_P = bag.offsets_B1[1:][bag.rows] - 1 - np.arange(len(keys_P))
        if self.recency is not None:
            bag = Ragged(bag.offsets_B1, keys_P, np.float32(self.recency) ** distance_P.astype(np.float32))
        return bag if self.max_length is None else bag.where(distance_P < self.max_length)

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        return {name: self._bag(self.column(columns, name), column=name) for name, _ in self.columns}

    def _pool(self, bag: RaggedTensor) -> Tensor:
        if self.training and self.dropout:
            bag = bag.where(torch.rand(len(bag.ids), device=bag.ids.device) >= self.dropout)
        if self.pooling == "sum":
            values_P = bag.values / (1 - self.dropout) if self.training else bag.values
        else:
            parts_P = bag.values if self.pooling == "mean" else bag.values.square()
            norm_B = torch.segment_reduce(parts_P, "sum", offsets=bag.offsets, initial=0)
            norm_B = norm_B if self.pooling == "mean" else norm_B.sqrt()
            values_P = bag.values / torch.where(norm_B > 0, norm_B, 1)[rows_of(bag.offsets, len(bag.ids))]
        return self.rows.bag_sum(self.weight_FD, bag._replace(values=values_P))

    def forward(self, features: Tensors) -> Tensor:
        return reduce(
            torch.add, [self._pool(entry(features, name, RaggedTensor)) for name, _ in self.columns]
        )
