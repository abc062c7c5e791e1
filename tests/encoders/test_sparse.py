"""Sparse vectors against a dense product."""

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from sklearn.preprocessing import normalize

from widemax.encoders.features import to_tensors
from widemax.encoders.sparse import SparseEncoder
from widemax.errors import DataError

TYPE = pa.large_list(pa.struct([("index", pa.int64()), ("value", pa.float32())]))


def column(matrix: np.ndarray) -> pa.Array:
    return pa.array(
        [[{"index": int(i), "value": row[i]} for i in np.flatnonzero(row)] for row in matrix], TYPE
    )


def fitted(columns, **options):
    encoder = SparseEncoder([(name, "sparse") for name in columns], dim=3, **options)
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator())
    with torch.no_grad():
        encoder.weight_FD.normal_(generator=torch.Generator().manual_seed(0))
    return encoder


@pytest.mark.parametrize("scaled", [True, False])
def test_equals_the_dense_product(scaled):
    matrix = sp.random_array((20, 30), density=0.2, rng=np.random.default_rng(0)).toarray()
    encoder = fitted({"x": column(matrix)}, normalize=scaled)
    used = matrix[:, matrix.any(axis=0)]
    expected = (normalize(used) if scaled else used) @ encoder.weight_FD.detach().numpy()
    hidden = encoder(to_tensors(encoder.encode({"x": column(matrix)})))
    np.testing.assert_allclose(hidden.detach().numpy(), expected, atol=1e-5)


def test_unknown_indices_do_not_count():
    encoder = fitted({"x": column(np.array([[3.0, 0.0, 4.0]]))})
    bag = encoder.encode({"x": column(np.array([[3.0, 9.0, 4.0, 9.0], [0, 1.0, 0, 0]]))})["bag"]
    np.testing.assert_allclose(bag.values_P, [0.6, 0.8], rtol=1e-6)
    assert bag.lengths.tolist() == [2, 0]


def test_columns_do_not_share_indices():
    both = column(np.array([[1.0, 2.0]]))
    encoder = fitted({"x": both, "y": both}, normalize=False)
    assert encoder.encode({"x": both, "y": both})["bag"].ids_P.tolist() == [0, 1, 2, 3]


def test_huge_indices_take_no_room():
    row = pa.array([[{"index": (1 << 40) - 1, "value": 1.0}], None], TYPE)
    encoder = fitted({"x": row})
    assert len(encoder.weight_FD) == 1
    assert encoder.encode({"x": row})["bag"].lengths.tolist() == [1, 0]


@pytest.mark.parametrize("index", [-1, 1 << 40])
def test_indices_outside_the_range_are_refused(index):
    with pytest.raises(DataError, match="'x'"):
        fitted({"x": pa.array([[{"index": index, "value": 1.0}]], TYPE)})


@pytest.mark.parametrize("pair", [{"index": 1, "value": float("nan")}, {"index": 1, "value": None}, None])
def test_values_that_are_no_numbers_are_refused(pair):
    with pytest.raises(DataError, match="finite"):
        fitted({"x": pa.array([[pair]], TYPE)})
