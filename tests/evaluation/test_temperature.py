import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from widemax.errors import UsageError
from widemax.evaluation import ConfidenceBins, fit_temperature


def overconfident(temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are ``temperature`` times those the labels were drawn from."""
    generator = np.random.default_rng(seed)
    true_logits = generator.normal(size=(20_000, 10)) * 2
    labels = (true_logits + generator.gumbel(size=true_logits.shape)).argmax(1)
    return true_logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 1.7, 8.0])
def test_finds_the_temperature_that_the_labels_were_drawn_at(temperature: float) -> None:
    logits, labels = overconfident(temperature)
    calls = []

    def nll(T: float) -> float:
        calls.append(T)
        return float(-log_softmax(logits / T, axis=1)[np.arange(len(labels)), labels].mean())

    found = fit_temperature(nll, num_rows=len(labels))
    # The standard error of the estimate at 20,000 rows is about 1 %.
    assert found == pytest.approx(temperature, rel=0.04)
    assert len(calls) <= 25
    grid = found * np.array([0.99, 1.01])
    assert nll(found) <= min(nll(T) for T in grid)


def test_lowers_held_out_nll_and_calibration_error() -> None:
    logits, labels = overconfident(3.0, seed=1)
    held_out, held_out_labels = overconfident(3.0, seed=2)

    def error_and_nll(T: float) -> tuple[float, float]:
        probs = np.exp(log_softmax(held_out / T, axis=1))
        bins = ConfidenceBins()
        bins.update(probs.max(1), probs.argmax(1) == held_out_labels)
        return bins.calibration_error(), log_loss(held_out_labels, probs)

    found = fit_temperature(
        lambda T: float(-log_softmax(logits / T, axis=1)[np.arange(len(labels)), labels].mean()),
        num_rows=len(labels),
    )
    error_before, nll_before = error_and_nll(1.0)
    error_after, nll_after = error_and_nll(found)
    assert error_after < 0.02 < 0.05 < error_before
    assert nll_after < nll_before


def test_stays_within_its_bounds() -> None:
    assert fit_temperature(lambda T: T, num_rows=1e6) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(lambda T: 1 / T, num_rows=1e6) == pytest.approx(20, rel=1e-3)


def test_refuses_nan() -> None:
    with pytest.raises(UsageError, match="nll must return a number"):
        fit_temperature(lambda T: math.nan, num_rows=1)


def test_is_the_mode_of_the_posterior() -> None:
    """The gamma prior on 1/T of mode 1 and the likelihood N · nll, found on a grid."""
    logits, labels = (part[:50] for part in overconfident(2.0, seed=3))

    def nll(T: float) -> float:
        return float(-log_softmax(logits / T, axis=1)[np.arange(50), labels].mean())

    grid = np.exp(np.linspace(-3, 3, 6001))
    log_prior = stats.gamma(11, scale=1 / 10).logpdf(1 / grid)
    best = grid[(np.array([-50 * nll(T) for T in grid]) + log_prior).argmax()]
    assert fit_temperature(nll, num_rows=50) == pytest.approx(best, rel=1e-3)


def test_few_rows_that_are_all_right_change_little() -> None:
    logits = np.array([[1.5, 0.0]] * 6)
    found = fit_temperature(lambda T: float(-log_softmax(logits / T, axis=1)[:, 0].mean()), num_rows=6)
    assert 0.8 < found < 1
