"""Running moments against NumPy on the whole."""

import numpy as np
import pytest

from widemax.encoders.moments import RunningMoments


def test_chunks_equal_the_whole():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(1000, 3)) * [1, 1e-3, 1e6] + [0, 5, 1e9]
    values[generator.random(values.shape) < 0.2] = np.nan
    moments = RunningMoments()
    for chunk in np.split(values, [1, 2, 500]):
        moments.update(chunk)
    np.testing.assert_allclose(moments.mean_N, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.scale, np.nanstd(values, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(moments.count_N, (~np.isnan(values)).sum(axis=0))


def test_large_offsets_keep_their_digits():
    # The textbook formula E[x²] − E[x]² gives noise here.
    values = 1.7e18 + 1e9 * np.array([[0.0], [1.0], [2.0]])
    moments = RunningMoments()
    moments.update(values)
    np.testing.assert_allclose(moments.scale, np.std(values[:, 0] - 1.7e18), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e9])
def test_constant_and_absent_columns_have_scale_one(value):
    moments = RunningMoments()
    for rows in (3, 7):
        moments.update(np.column_stack([np.full(rows, value), np.full(rows, np.nan)]))
    assert moments.scale.tolist() == [1.0, 1.0]
    assert moments.common_scale == 1.0
    assert moments.mean_N[1] == 0.0


def test_common_scale_is_the_root_mean_square_distance():
    values = np.random.default_rng(1).normal(size=(50, 4)) * [1, 2, 3, 0] + 7
    moments = RunningMoments()
    moments.update(values)
    assert moments.common_scale == pytest.approx(np.sqrt(np.mean((values - values.mean(axis=0)) ** 2)))
