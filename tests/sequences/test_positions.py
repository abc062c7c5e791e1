"""Positions: known values, and what turning by them must keep."""

import pytest
import torch

from widemax.errors import ShapeError
from widemax.sequences import rotary, sinusoidal


def test_waves_have_the_values_of_the_formula() -> None:
    waves = sinusoidal(20, 7)
    assert waves.shape == (20, 7)
    for position, column in [(0, 0), (0, 1), (13, 2), (13, 5), (19, 6)]:
        angle = torch.tensor(position / 10_000 ** ((column - column % 2) / 7), dtype=torch.float64)
        expected = angle.cos() if column % 2 else angle.sin()
        assert float(waves[position, column]) == pytest.approx(float(expected), abs=1e-6)
    torch.testing.assert_close(sinusoidal(5, 7, start=15), waves[15:])


def test_products_of_turned_vectors_depend_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 8, dtype=torch.float64)

    def product(at: int, other: int) -> float:
        return float(rotary(query, start=at) @ rotary(key, start=other).T)

    assert product(3, 1) == pytest.approx(product(103, 101))
    assert product(3, 1) != pytest.approx(product(3, 2))
    assert float(rotary(query, start=7).norm()) == pytest.approx(float(query.norm()))


def test_an_odd_width_cannot_be_turned() -> None:
    with pytest.raises(ShapeError, match="even E"):
        rotary(torch.zeros(2, 3))
