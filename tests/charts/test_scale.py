"""Scales, round numbers, and numbers in few characters."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.charts.scale import Scale, compact, log_ticks, tick_labels, ticks


@given(offset=st.floats(-100, 100), width=st.floats(1e-6, 1e12))
def test_ticks_enclose_the_range_evenly_and_are_few(offset: float, width: float) -> None:
    low, high = offset * width, (offset + 1) * width
    found = ticks(low, high)
    step = found[1] - found[0]
    assert 2 <= len(found) <= 6
    assert found[0] <= low + 1e-6 * step
    assert found[-1] >= high - 1e-6 * step
    assert all(b - a == pytest.approx(step, rel=1e-6) for a, b in pairwise(found))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-9, 1e15])
def test_ticks_of_a_single_value_have_width(value: float) -> None:
    found = ticks(value, value)
    assert found[0] <= value <= found[-1]
    assert found[0] < found[-1]


@given(low=st.floats(1e-300, 1e280), factor=st.floats(3, 1e20))
def test_logarithmic_ticks_are_inside_and_few(low: float, factor: float) -> None:
    found = log_ticks(low, low * factor)
    assert 1 <= len(found) <= 7
    assert all(low <= value <= low * factor for value in found)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0.93, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 5, ["0", "1", "2", "3", "4", "5"]),
        (0.31, 0.34, ["0.31", "0.32", "0.33", "0.34"]),
        (0, 9000, ["0", "2k", "4k", "6k", "8k", "10k"]),
        (-9000, 0, ["−10k", "−8k", "−6k", "−4k", "−2k", "0"]),
        (-1, 1, ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_tick_labels_have_just_the_decimals_they_need(low: float, high: float, expected: list[str]) -> None:
    assert list(tick_labels(ticks(low, high)).values()) == expected


def test_tick_labels_of_logarithms() -> None:
    assert list(tick_labels([0.01, 0.1, 1.0], is_log=True).values()) == ["0.01", "0.1", "1"]
    assert list(tick_labels([1e-12, 2e-7, 1e5], is_log=True).values()) == ["10⁻¹²", "2·10⁻⁷", "10⁵"]


def test_compact_counts_round_to_the_next_unit() -> None:
    assert [compact(n) for n in (0, 999, 1000, 9_960, 12_345, 999_999, 2_500_000_000)] == [
        "0", "999", "1k", "10k", "12k", "1M", "2.5G",
    ]  # fmt: skip


def test_scales_map_the_ends_and_leave_out_what_has_no_place() -> None:
    linear = Scale(10, 20, 100, 0)
    np.testing.assert_array_equal(linear([10, 15, 20, np.nan, np.inf]), [100, 50, 0, np.nan, np.nan])
    logarithmic = Scale(0.01, 100, 0, 8, is_log=True)
    np.testing.assert_allclose(logarithmic([0.01, 1, 100, 0, -1]), [0, 4, 8, np.nan, np.nan], atol=1e-12)
