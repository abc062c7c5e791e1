"""Vectors: centred, scaled as a whole."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats.mstats import winsorize

from widemax.encoders.vector import VectorEncoder
from widemax.errors import DataError


def column(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.astype(np.float32).ravel()), matrix.shape[1])


def fitted(columns):
    encoder = VectorEncoder([(name, "vector") for name in columns], dim=3)
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator())
    return encoder


def squash(x):
    return x / np.sqrt(1 + (x / 10) ** 2)


@pytest.mark.parametrize("outlier", [1e6, 3e38])
def test_outliers_leave_the_others_where_they_are(outlier):
    usual = np.random.default_rng(0).normal(size=(300, 4))
    with_outliers = usual.copy()
    with_outliers[::25, 1] = outlier
    plain, robust = (fitted({"x": column(x)}) for x in (usual, with_outliers))
    few = {"x": column(np.array([[-1.0, 0, 1, 2]]))}
    np.testing.assert_allclose(robust.encode(few)["vector"], plain.encode(few)["vector"], atol=0.3)
    assert np.abs(robust.encode({"x": column(with_outliers)})["vector"]).max() <= 10


def test_centred_and_scaled_column_by_column():
    generator = np.random.default_rng(0)
    pixels, embedding = generator.normal(3, [1, 5], (40, 2)), generator.normal(-1, 0.01, (40, 3))
    columns = {"pixels": column(pixels), "embedding": column(embedding)}
    vector = fitted(columns).encode(columns)["vector"]
    for part, given in ((vector[:, :2], pixels), (vector[:, 2:], embedding)):
        drawn_in = np.asarray(winsorize(given, (0.05, 0.05), axis=0))
        scale = np.sqrt(np.mean((drawn_in - drawn_in.mean(axis=0)) ** 2))
        np.testing.assert_allclose(
            part, squash((given - drawn_in.mean(axis=0)) / scale), rtol=1e-3, atol=1e-3
        )


def test_slices_are_read_from_their_start():
    whole = column(np.arange(6.0).reshape(3, 2))
    encoder = fitted({"x": whole})
    np.testing.assert_array_equal(
        encoder.encode({"x": whole.slice(1)})["vector"], encoder.encode({"x": whole})["vector"][1:]
    )


def test_other_sizes_nulls_and_infinities_are_refused():
    encoder = fitted({"x": column(np.eye(3))})
    with pytest.raises(DataError, match="must have 3 numbers as in training; got 2"):
        encoder.encode({"x": column(np.eye(2))})
    with pytest.raises(DataError, match="complete"):
        encoder.encode({"x": pa.array([[1, 2, 3], None], pa.list_(pa.float32(), 3))})
    with pytest.raises(DataError, match="finite"):
        encoder.encode({"x": column(np.array([[1.0, np.inf, 2.0]]))})
