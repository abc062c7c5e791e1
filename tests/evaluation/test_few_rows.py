"""Calibration from few rows, simulated: no worse than none, and better where there is something to mend."""

from collections.abc import Callable

import numpy as np
import pytest
from calibration_rows import draw_labels, known, mean_nll
from scipy.special import expit

from widemax.evaluation import fit_temperature
from widemax.evaluation.calibration import PlattScaling, VectorScaling

NEW_ROWS = 1000
# What a fit may cost on average where nothing is to be mended: without a prior it is .5 at 5 rows.
COST = 0.01

Gain = Callable[[np.random.Generator, int, float], float]


def gain_of_temperature(generator: np.random.Generator, num_rows: int, spread: float) -> float:
    true = generator.normal(size=(num_rows + NEW_ROWS, 2 + generator.integers(4))) * generator.choice([1, 3])
    labels, logits = draw_labels(true, generator), true * np.exp(generator.normal() * spread)
    few, new = slice(num_rows), slice(num_rows, None)
    found = fit_temperature(lambda T: mean_nll(logits[few] / T, labels[few]), num_rows=num_rows)
    return mean_nll(logits[new], labels[new]) - mean_nll(logits[new] / found, labels[new])


def gain_of_platt(generator: np.random.Generator, num_rows: int, spread: float) -> float:
    scores = generator.normal(size=num_rows + NEW_ROWS) * generator.choice([1, 3]) + 1
    slope, offset = np.exp(generator.normal() * spread), generator.normal() * spread
    right = generator.random(len(scores)) < expit(slope * scores + offset)
    found = PlattScaling.fit(scores[:num_rows], right[:num_rows])

    def nll(logits: np.ndarray) -> float:
        return float((np.logaddexp(0, logits) - right[num_rows:] * logits).mean())

    new = scores[num_rows:]
    return nll(new) - nll(found.slope * new + found.offset)


def gain_of_vector(generator: np.random.Generator, num_rows: int, spread: float) -> float:
    true = generator.normal(size=(num_rows + NEW_ROWS, 4)) * generator.choice([1, 3])
    labels = draw_labels(true, generator)
    logits = true * np.exp(generator.normal() * spread) + generator.normal(size=4) * spread
    found = VectorScaling.fit(known(logits[:num_rows], 4, labels[:num_rows]))
    rows = known(logits[num_rows:], 4)
    scaled = np.empty_like(rows.logits_BK)
    np.put_along_axis(scaled, rows.ids_BK, found.apply(rows).log_probs, 1)
    return mean_nll(logits[num_rows:], labels[num_rows:]) - mean_nll(scaled, labels[num_rows:])


@pytest.mark.parametrize("num_rows", [5, 20, 100])
@pytest.mark.parametrize("gain", [gain_of_temperature, gain_of_platt, gain_of_vector])
def test_is_no_worse_than_none_in_expectation(gain: Gain, num_rows: int) -> None:
    def mean(spread: float) -> float:
        return float(np.mean([gain(np.random.default_rng(seed), num_rows, spread) for seed in range(50)]))

    assert mean(0.0) > -COST
    assert mean(0.4) > -COST / 5
    assert mean(0.8) > 0.005
