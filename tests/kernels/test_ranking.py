"""The largest values of each row, with ties by position."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from widemax.kernels import ranking, topk_by_id


def brute_force(values_BN, k):
    return np.argsort(-values_BN, axis=1, kind="stable")[:, :k]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 5), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6), st.data())
def test_equals_a_stable_sort(num_rows, num_values, num_levels, seed, data):
    k = data.draw(st.integers(0, num_values))
    # Few levels make many ties.
    values = np.random.default_rng(seed).integers(0, num_levels, (num_rows, num_values)).astype(np.float32)
    values[values == 0] = -np.inf
    found, positions = topk_by_id(torch.from_numpy(values), k)
    expected = brute_force(values, k)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(values, expected, 1))


def test_ties_at_the_last_place_are_resolved_in_small_portions(monkeypatch):
    monkeypatch.setattr(ranking, "_TIE_ELEMENTS", 64)
    values = np.random.default_rng(0).integers(0, 3, (50, 40)).astype(np.float64)
    np.testing.assert_array_equal(topk_by_id(torch.from_numpy(values), 7)[1], brute_force(values, 7))


def test_plain_topk_would_not_do():
    values = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (20, 300)).astype(np.float32))
    expected = brute_force(values.numpy(), 20)
    np.testing.assert_array_equal(topk_by_id(values, 20)[1], expected)
    assert (values.topk(20).indices.numpy() != expected).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_keeps_the_dtype(dtype):
    assert topk_by_id(torch.ones(1, 3, dtype=dtype), 2)[0].dtype == dtype
