import re

import numpy as np
import pytest
from calibration_rows import drawn, known
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from widemax.errors import ShapeError, UsageError
from widemax.evaluation import ConfidenceBins
from widemax.evaluation.calibration import PlattScaling


def smoothed_loss(params: np.ndarray, scores: np.ndarray, right: np.ndarray) -> float:
    targets = (len(right) * right + 40 * expit(scores)) / (len(right) + 40)
    logits = params[0] * scores + params[1]
    return float((np.logaddexp(0, logits) - targets * logits).sum())


@given(seed=st.integers(0, 2**31), size=st.integers(2, 60), scale=st.floats(0.01, 300))
def test_finds_the_least_smoothed_loss(seed: int, size: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=size) * scale + scale
    right = generator.random(size) < expit(generator.normal() * scores / scale)
    found = PlattScaling.fit(scores, right)
    peer = minimize(smoothed_loss, [1, 0], args=(scores, right), tol=1e-10, method="Nelder-Mead")
    params = np.array([found.slope, found.offset])
    assert smoothed_loss(params, scores, right) <= peer.fun + 1e-6


def test_recovers_the_numbers_that_the_answers_were_drawn_with() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=20_000) * 3
    right = generator.random(20_000) < expit(0.4 * scores - 0.7)
    found = PlattScaling.fit(scores, right)
    assert found.slope == pytest.approx(0.4, rel=0.05)
    assert found.offset == pytest.approx(-0.7, rel=0.1)
    # Dividing by the slope is the wrong twin.
    assert smoothed_loss(np.array([1 / 0.4, -0.7]), scores, right) > 2 * smoothed_loss(
        np.array([found.slope, found.offset]), scores, right
    )


def test_separable_and_one_sided_answers_stay_finite() -> None:
    scores = np.array([-2.0, -1.0, 1.0, 2.0])
    found = PlattScaling.fit(scores, scores > 0)
    assert 0.1 < found.slope < 5
    # Without the smoothing any larger slope would do better still.
    plain = [np.logaddexp(0, -slope * np.abs(scores)).sum() for slope in (1, 10, 100)]
    assert plain == sorted(plain, reverse=True)

    all_right = PlattScaling.fit(scores, np.ones(4, bool)).apply(scores)
    assert (all_right > expit(scores)).all()
    assert all_right.max() < 0.95
    equal = PlattScaling.fit(np.full(9, 3.0), np.arange(9) < 3)
    assert equal.apply(np.array([3.0])) == pytest.approx((3 + 40 * expit(3)) / 49)


def test_apply_does_not_overflow() -> None:
    assert PlattScaling(1.0, 0.0).apply(np.array([-1e4, 0.0, 1e4])).tolist() == [0, 0.5, 1]


def test_mends_the_confidence_of_a_model_that_is_too_sure() -> None:
    logits, labels = drawn(1, 8000, 50)
    rows = known(logits * 3, 5)
    right = rows.ids_BK[:, 0] == labels
    fit_on, judged_on = slice(0, 4000), slice(4000, None)
    scaling = PlattScaling.fit(rows.top_log_odds_B[fit_on], right[fit_on])

    def error(confidence: np.ndarray) -> float:
        bins = ConfidenceBins()
        bins.update(confidence, right[judged_on])
        return bins.calibration_error()

    before = error(expit(rows.top_log_odds_B[judged_on]))
    after = error(scaling.apply(rows.top_log_odds_B[judged_on]))
    assert after < 0.04 < 0.3 < before


def test_refuses_what_cannot_be_fitted() -> None:
    with pytest.raises(
        ShapeError, match=re.escape("right must be of shape (2,), one answer a score; got (3,)")
    ):
        PlattScaling.fit(np.zeros(2), np.ones(3, bool))
    for scores in (np.empty(0), np.array([np.inf])):
        with pytest.raises(UsageError, match="scores must hold at least one number, all finite"):
            PlattScaling.fit(scores, np.ones(scores.size, bool))
