"""Quantile bins, and numbers as how far they are through each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from widemax.encoders.piecewise import piecewise_linear, quantile_bins

FINITE = st.floats(-10, 10)


def test_bins_hold_about_as_many_rows_each():
    x = np.random.default_rng(0).lognormal(size=(1_001, 1))
    column_E, start_E, width_E = quantile_bins(x, num_bins=8)
    assert column_E.tolist() == [0] * 8
    counts, _ = np.histogram(x, bins=[*start_E, start_E[-1] + width_E[-1]])
    assert counts.sum() == 1_001
    assert set(counts) <= {125, 126}


def test_few_values_have_few_bins_and_a_constant_column_none():
    x = np.array([[0.0, 7.0, np.nan, 1.0], [0.0, 7.0, np.nan, np.nan], [5.0, 7.0, np.nan, 2.0]])
    column_E, start_E, width_E = quantile_bins(x, num_bins=64)
    assert column_E.tolist() == [0, 3]
    assert start_E.tolist() == [0, 1]
    assert width_E.tolist() == [5, 1]


@pytest.mark.parametrize("x", [np.empty((5, 0)), np.ones((5, 2))])
def test_without_bins_there_is_nothing(x):
    bins = quantile_bins(x, num_bins=4)
    assert piecewise_linear(x, *bins).shape == (5, 0)


@given(st.lists(FINITE, min_size=2, max_size=40), st.lists(FINITE, min_size=1, max_size=9))
def test_bins_weighted_by_their_widths_give_back_the_number(seen, new):
    column_E, start_E, width_E = quantile_bins(np.array(seen)[:, None], num_bins=7)
    x = np.clip(new, min(seen), max(seen))
    through = piecewise_linear(x[:, None], column_E, start_E, width_E)
    assert (np.abs(through) <= 1).all()
    # The whole is the range; each bin adds its half-width for −1 and +1 around its own middle.
    assert_allclose(through @ (width_E / 2) + (min(seen) + max(seen)) / 2, x, atol=1e-9)


def test_missing_numbers_are_in_the_middle_of_every_bin():
    bins = quantile_bins(np.array([[0.0], [1.0], [2.0]]), num_bins=2)
    assert piecewise_linear(np.array([[np.nan]]), *bins).tolist() == [[0, 0]]
