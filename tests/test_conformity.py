"""The threshold that right labels give, and what is kept of them."""

import re

import numpy as np
import pytest

from widemax.conformity import Conformity
from widemax.errors import CorruptError, UsageError
from widemax.evaluation.calibration.conformal import conformal_quantile


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.9])
def test_of_one_label_it_is_the_conformal_quantile(coverage: float) -> None:
    probs = np.random.default_rng(0).random(99)
    conformity = Conformity(probs[9:], np.ones(90, int), np.ones(90), num_rows=99)
    scores = np.append(1 - probs[9:], np.full(9, np.inf))
    expected = 1 - conformal_quantile(scores, 1 - coverage)
    assert conformity.covering(coverage) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UsageError, match=re.escape("ask for 0.9 at most")):
        conformity.covering(0.92)


def test_labels_that_are_not_listed_are_not_covered() -> None:
    conformity = Conformity(np.array([0.9, 0.4, 0.3]), np.array([1, 2, 1]), np.ones(3), num_rows=3)
    assert conformity.covering(0.5, k=2) == pytest.approx(0.4, rel=1e-4)
    assert conformity.covering(0.5, k=1) == pytest.approx(0.3, rel=1e-4)


def test_of_many_labels_a_random_part_is_kept() -> None:
    probs = np.sort(np.random.default_rng(0).random(200_000))
    conformity = Conformity(probs, np.ones(200_000, int), np.ones(200_000), num_rows=250_000)
    kept = conformity.some(seed=0)
    assert len(kept.probs_P) == 2**16
    assert kept.covering(0.5) == pytest.approx(conformity.covering(0.5), abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_a_part_of_rows_with_several_labels_belongs_together(seed: int) -> None:
    num_labels = np.random.default_rng(seed).integers(1, 6, 30_000)
    shares = np.repeat(1 / num_labels, num_labels)
    conformity = Conformity(np.ones(len(shares)), np.ones(len(shares), int), shares, num_rows=30_000)
    kept = conformity.some(seed=seed)
    assert kept.num_rows == pytest.approx(kept.shares_P.sum(), abs=1)
    Conformity.of_state(kept.state(), num_rows=kept.num_rows)


def test_what_does_not_belong_together_is_refused() -> None:
    conformity = Conformity(np.array([0.5, 0.25]), np.array([1, 2]), np.ones(2), num_rows=2)
    state, num_rows = conformity.state(), conformity.num_rows
    assert Conformity.of_state(state, num_rows=num_rows).covering(0.5) == conformity.covering(0.5)
    ranks, probs = state["ranks"], state["probs"]
    for wrong in ({"ranks": ranks[1:]}, {"ranks": 0 * ranks}, {"probs": probs + 1}, {"probs": ranks}):
        with pytest.raises(CorruptError, match="do not belong together"):
            Conformity.of_state(state | wrong, num_rows=num_rows)
    with pytest.raises(CorruptError, match="do not belong together"):
        Conformity.of_state(state, num_rows=num_rows - 1)
