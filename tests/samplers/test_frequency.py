"""Frequencies flattened by a power."""

import numpy as np
import pytest
import torch

from widemax.classes import Classes
from widemax.errors import ConfigError, ShapeError
from widemax.samplers import Frequency


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_probabilities_follow_the_power_of_the_counts(alpha):
    counts = torch.tensor([100, 7, 0, 1])
    expected = np.array([100, 7, 1, 1.0]) ** alpha
    np.testing.assert_allclose(
        Frequency(Classes(4, counts), alpha=alpha).probs(torch.arange(4)),
        expected / expected.sum(),
        rtol=1e-13,
    )


def test_counts_are_left_as_they_were():
    counts = torch.tensor([3.0, 0.0], dtype=torch.float64)
    Frequency(Classes(2, counts))
    assert counts.tolist() == [3, 0]


def test_classes_without_a_row_are_drawn():
    sampler = Frequency(Classes(3, torch.tensor([0, 4, 0])))
    ids = sampler.draw(torch.tensor([1]), 200, generator=torch.Generator().manual_seed(0)).class_ids
    assert ids.tolist() == [0, 1, 2]


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match="class counts"):
        Frequency(3)
    with pytest.raises(ShapeError, match=r"3 classes; got shape \(2,\)"):
        Frequency(Classes(3, torch.tensor([1, 2])))
