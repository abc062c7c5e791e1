"""Bins hold every class, and are drawn often enough."""

import pytest
import torch

from widemax.testing.bins import EVENTS_A_BIN, bins_of, least_variances, z_scores


@pytest.mark.parametrize("num_classes", [1, 2, 40, 100_000])
@pytest.mark.parametrize("shape", ["zipf", "flat", "few"])
def test_every_bin_is_used_and_often_drawn(num_classes, shape):
    ids_C = torch.arange(num_classes, dtype=torch.float64)
    weights_C = {"zipf": 1 / (ids_C + 1), "flat": torch.ones_like(ids_C), "few": (ids_C < 3).double()}[shape]
    expected_C = 16 * weights_C / weights_C.sum()
    bin_C, num_bins = bins_of(expected_C, 2000)
    events_E = torch.zeros(num_bins, dtype=torch.float64).index_add_(0, bin_C, 2000 * expected_C)
    assert bin_C.unique().tolist() == list(range(num_bins))
    assert num_bins <= 80
    if shape != "few":
        # A range is cut in two at the mean of neighbors, so its parts may fall below the number asked for.
        assert events_E.min() > EVENTS_A_BIN / 4


def test_classes_stated_below_their_neighbors_are_judged_apart():
    alternating_C = torch.tensor([1e-5, 3e-5], dtype=torch.float64).repeat(5000)
    bin_C, _ = bins_of(alternating_C, 2000)
    assert not set(bin_C[::2].tolist()) & set(bin_C[1::2].tolist())


def test_means_in_standard_errors():
    generator = torch.Generator().manual_seed(0)
    noise_RE = torch.randn(10_000, 2, dtype=torch.float64, generator=generator)
    z_E = z_scores(noise_RE + torch.tensor([0.0, 0.1]), torch.tensor(0.01))
    assert abs(z_E[0]) < 4
    assert 6 < z_E[1] < 14


def test_a_class_drawn_almost_always_may_be_drawn_in_all_of_a_few_draws():
    expected = torch.tensor([0.98])
    differences_RE = torch.ones(400, 1) - expected
    least_E = least_variances(torch.tensor([0]), expected)
    assert z_scores(differences_RE, torch.tensor(1 / 400)).item() > 5
    assert z_scores(differences_RE, least_E).item() == pytest.approx((400 * 0.02 / 0.98) ** 0.5, rel=1e-3)
    assert least_variances(torch.tensor([0, 0]), expected).item() == 0
