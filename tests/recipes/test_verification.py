"""Accepted shares against counting, and pairs of different rows only."""

import numpy as np
import pytest
import torch

from widemax.recipes.verification import Alike, compare


def test_no_more_false_pairs_are_accepted_than_the_rate_allows():
    generator = np.random.default_rng(0)
    alike = Alike(generator.normal(1, 1, 300).round(1), generator.normal(0, 1, 400).round(1))
    for rate in (0.0, 0.01, 0.1, 0.5, 1.0):
        # The least threshold that keeps the rate, found by trying every score.
        candidates = np.unique(np.concatenate([alike.different_Q, [-np.inf]]))
        threshold = min(t for t in candidates if (alike.different_Q > t).mean() <= rate)
        assert alike.accepted_at(rate) == pytest.approx((alike.same_P > threshold).mean())
    shares = alike.accepted(np.linspace(0, 1, 401))
    assert (np.diff(shares) >= 0).all()
    assert shares.mean() == pytest.approx(alike.area, abs=0.02)


def test_pairs_are_told_apart_by_class_and_never_of_a_row_with_itself():
    angles_B = torch.tensor([0.0, 0.1, 1.5, 1.6])
    features = torch.stack([angles_B.cos(), angles_B.sin()], dim=1) * torch.tensor(
        [[1.0], [5.0], [1.0], [5.0]]
    )
    alike = compare(features, torch.tensor([0, 0, 1, 1]), num_pairs=400, seed=0)
    np.testing.assert_allclose(alike["cosine"].same_P, np.cos(0.1), rtol=1e-5)
    assert alike["cosine"].different_Q.max() == pytest.approx(np.cos(1.4), rel=1e-5)
    assert alike["cosine"].area == 1
    # By distance the lengths count too, and spoil it.
    assert alike["distance"].same_P.max() < -3.9
    assert alike["distance"].area < 1
    assert len(alike["cosine"].same_P) + len(alike["cosine"].different_Q) < 400
