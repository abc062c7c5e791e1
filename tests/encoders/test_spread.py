"""Middles and spreads in bounded memory, whatever the outliers."""

import numpy as np
import pytest
from scipy import stats

from widemax.encoders import spread
from widemax.encoders.spread import RowSample, drawn_in, middle_and_spread, squashed


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_sample_is_bounded_and_even(monkeypatch, chunk):
    monkeypatch.setattr(spread, "MOST_NUMBERS", 50)
    sample = RowSample()
    values = np.arange(1000.0)[:, None]
    for start in range(0, 1000, chunk):
        sample.update(values[start : start + chunk])
    rows = sample.rows().ravel()
    assert 10 < len(rows) <= max(50, chunk)
    assert set(np.diff(rows)) == {rows[1] - rows[0]}
    assert rows[0] == 0
    assert rows[-1] > 900


def test_a_normal_column_has_its_mean_and_deviation():
    values = np.random.default_rng(0).normal(5, 3, 100_000)
    middle, deviation = middle_and_spread(values)
    assert middle == pytest.approx(5, abs=0.05)
    assert deviation == pytest.approx(3, rel=0.01)


def test_absent_constant_and_extreme_columns():
    assert middle_and_spread(np.full(3, np.nan)) == (0, 1)
    assert middle_and_spread(np.array([7.0, np.nan, 7.0])) == (7, 1)
    extreme = np.array([-1.7e308, 1.7e308, 0, np.nan, 1.7e308])
    middle, deviation = middle_and_spread(extreme)
    assert 0 < deviation < np.inf
    assert np.isfinite(squashed(extreme[:3], np.array(middle), np.array(deviation))).all()


def test_drawn_in_is_winsorizing():
    values = np.random.default_rng(0).normal(size=(200, 3))
    expected = np.asarray(stats.mstats.winsorize(values, (0.05, 0.05), axis=0))
    np.testing.assert_array_equal(drawn_in(values), expected)
