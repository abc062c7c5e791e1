import re

import numpy as np
import pytest
from calibration_rows import answered, draw_labels, drawn
from scipy.special import softmax

from widemax.errors import ShapeError, UsageError
from widemax.evaluation import OneLabelRows
from widemax.evaluation.calibration import APS, LAC, RAPS, ConformalSets
from widemax.evaluation.calibration.conformal import conformal_quantile, label_scores
from widemax.evaluation.calibration.conformal_scores import ConformalScore

SCORES = [LAC(), APS(), RAPS(penalty=0.02, free_ranks=3)]
ALPHA, C = 0.1, 200


def split(seed: int, num_fit: int, num_judged: int, k: int) -> tuple[OneLabelRows, OneLabelRows]:
    """Exchangeable rows of a model that is too sure of itself, in two parts."""
    logits, labels = drawn(seed, num_fit + num_judged, C, scale=2.5)
    rows = logits * 1.5
    return answered(rows[:num_fit], labels[:num_fit], k), answered(rows[num_fit:], labels[num_fit:], k)


def held(sizes: np.ndarray, rows: OneLabelRows) -> np.ndarray:
    return (rows.ranks_B >= 1) & (rows.ranks_B <= sizes)


def standard_error(num_fit: int, num_judged: int, alpha: float = ALPHA) -> float:
    return float(np.sqrt(alpha * (1 - alpha) * (1 / num_fit + 1 / num_judged)))


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("k", [C, 60])
def test_sets_hold_the_label_as_often_as_asked(score: ConformalScore, k: int) -> None:
    generator = np.random.default_rng(0)
    fit_on, judged_on = split(1, 4000, 4000, k)
    sets = ConformalSets.fit([fit_on], score=score, alpha=ALPHA, num_classes=C, generator=generator)
    found = sets.predict(judged_on.topk_log_probs_BK, generator=generator)
    coverage = held(found.sizes_B, judged_on).mean()
    assert abs(coverage - (1 - ALPHA)) < 4 * standard_error(4000, 4000) + 1 / 4001
    assert 1 < found.sizes_B.mean() < k
    # The model's own word for 90 % is the wrong twin.
    reached = np.cumsum(np.exp(judged_on.topk_log_probs_BK), axis=1) >= 1 - ALPHA
    naive = np.where(reached.any(1), reached.argmax(1) + 1, k)
    assert held(naive, judged_on).mean() < 1 - ALPHA - 6 * standard_error(4000, 4000)


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_short_lists_keep_the_promise(score: ConformalScore) -> None:
    k, generator = 40, np.random.default_rng(0)
    fit_on, judged_on = split(2, 4000, 4000, k)
    outside = (fit_on.ranks_B > k).mean()
    assert 0.01 < outside < ALPHA
    sets = ConformalSets.fit([fit_on], score=score, alpha=ALPHA, num_classes=C, generator=generator)
    found = sets.predict(judged_on.topk_log_probs_BK, generator=generator)
    error = standard_error(4000, 4000)
    assert abs(held(found.sizes_B, judged_on).mean() - (1 - ALPHA)) < 4 * error + 1 / 4001
    # A threshold from labels of every rank, as if sets had no end, misses more of them.
    whole, _ = split(2, 4000, 4000, C)
    endless = ConformalSets.fit([whole], score=APS(), alpha=0.02, num_classes=C, generator=generator)
    cut = ConformalSets(APS(), 0.02, k, C, endless.threshold)
    sizes = cut.predict(judged_on.topk_log_probs_BK, generator=generator).sizes_B
    assert held(sizes, judged_on).mean() < 0.98 - 2 * standard_error(4000, 4000, 0.02)


def test_few_rows_need_the_correction() -> None:
    # The coverage of a threshold among uniform scores is the threshold itself.
    generator = np.random.default_rng(3)
    trials, n = 4000, 15
    scores = generator.random((trials, n))
    right = np.mean([conformal_quantile(row, ALPHA) for row in scores])
    assert right == pytest.approx(15 / 16, abs=0.005)
    without = np.quantile(scores, 1 - ALPHA, axis=1, method="inverted_cdf").mean()
    assert without < 1 - ALPHA - 0.01


@pytest.mark.parametrize(
    ("n", "alpha", "place"), [(99, 0.29, 71), (9, 0.1, 9), (19, 0.05, 19), (100, 0.1, 91)]
)
def test_the_quantile_is_the_right_order_statistic(n: int, alpha: float, place: int) -> None:
    scores = np.random.default_rng(4).permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(scores, alpha) == place


def test_aps_that_always_takes_the_crossing_class_holds_the_label_too_often() -> None:
    generator = np.random.default_rng(5)
    logits, labels = drawn(6, 8000, 6)
    fit_on, judged_on = answered(logits[:4000], labels[:4000], 6), answered(logits[4000:], labels[4000:], 6)
    sets = ConformalSets.fit([fit_on], score=APS(), alpha=ALPHA, num_classes=6, generator=generator)
    error = standard_error(4000, 4000)
    sizes = sets.predict(judged_on.topk_log_probs_BK, generator=generator).sizes_B
    assert abs(held(sizes, judged_on).mean() - (1 - ALPHA)) < 4 * error
    # Until the sum passes 90 %, and these probabilities are right: the class that crosses is in.
    reached = np.cumsum(np.exp(judged_on.topk_log_probs_BK), axis=1) >= 1 - ALPHA
    assert held(reached.argmax(1) + 1, judged_on).mean() > 1 - ALPHA + 4 * error


def test_aps_covers_hard_rows_better_than_lac() -> None:
    # Half of the rows are easy and half hard, and the model knows it.
    generator = np.random.default_rng(7)
    logits = generator.normal(size=(12_000, 30)) * np.where(np.arange(12_000) % 2, 6.0, 0.7)[:, None]
    labels = draw_labels(logits, generator)
    fit_on, judged_on = answered(logits[:6000], labels[:6000], 30), answered(logits[6000:], labels[6000:], 30)
    gaps, sizes = {}, {}
    for score in (LAC(), APS()):
        sets = ConformalSets.fit([fit_on], score=score, alpha=ALPHA, num_classes=30, generator=generator)
        size_B = sets.predict(judged_on.topk_log_probs_BK, generator=generator).sizes_B
        is_held = held(size_B, judged_on)
        gaps[score] = abs(is_held[1::2].mean() - is_held[::2].mean())
        sizes[score] = size_B.mean()
    assert gaps[APS()] < 0.04 < gaps[LAC()]
    assert sizes[LAC()] < sizes[APS()]


def test_raps_has_fewer_very_large_sets_than_aps() -> None:
    fit_on, judged_on = split(8, 3000, 3000, C)
    largest = []
    for score in (APS(), RAPS(penalty=0.05, free_ranks=5)):
        generator = np.random.default_rng(0)
        sets = ConformalSets.fit([fit_on], score=score, alpha=ALPHA, num_classes=C, generator=generator)
        largest.append(sets.predict(judged_on.topk_log_probs_BK, generator=generator).sizes_B.max())
    assert largest[1] < largest[0]


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_scores_are_the_formula_and_never_fall(score: ConformalScore) -> None:
    rows, _ = split(9, 50, 1, 20)
    probs, u = np.exp(rows.topk_log_probs_BK), np.random.default_rng(0).random(50)
    got = score.listed(probs, u)
    for b in range(50):
        for r in range(20):
            before = probs[b, :r].sum() + u[b] * probs[b, r]
            expected = {
                "LAC": 1 - probs[b, r],
                "APS": before,
                "RAPS": before + 0.02 * max(0, r + 1 - 3),
            }[type(score).__name__]
            assert got[b, r] == pytest.approx(expected)
    assert (np.diff(got, axis=1) >= 0).all()
    whole = score.listed(softmax(np.random.default_rng(1).normal(size=(30, 8)), axis=1)[:, :8], u[:30])
    assert whole.shape == (30, 8)


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_truncated_marks_every_row_whose_set_was_cut(score: ConformalScore) -> None:
    fit_on, judged_on = split(10, 2000, 2000, C)
    generator = np.random.default_rng(0)
    sets = ConformalSets.fit([fit_on], score=score, alpha=0.2, num_classes=C, generator=generator)
    whole = sets.predict(judged_on.topk_log_probs_BK, generator=np.random.default_rng(1))
    assert not whole.truncated_B.any()
    k = 10
    cut = ConformalSets(score, 0.2, k, C, sets.threshold)
    found = cut.predict(judged_on.topk_log_probs_BK, generator=np.random.default_rng(1))
    np.testing.assert_array_equal(found.sizes_B, np.minimum(whole.sizes_B, k))
    was_cut = whole.sizes_B > k
    assert found.truncated_B[was_cut].all()
    assert was_cut.any()
    assert not found.truncated_B.all()


def test_chunks_give_the_same_threshold_and_unseen_labels_lie_outside() -> None:
    rows, _ = split(11, 300, 1, 50)
    parts = [
        OneLabelRows(
            rows.labels_B[part],
            rows.ranks_B[part],
            rows.log_probs_B[part],
            rows.topk_ids_BK[part],
            rows.topk_log_probs_BK[part],
            rows.square_sums_B[part],
        )
        for part in (slice(0, 7), slice(7, 300))
    ]
    whole, chunked = (
        ConformalSets.fit(chunks, score=APS(), alpha=ALPHA, num_classes=C, generator=np.random.default_rng(0))
        for chunks in ([rows], parts)
    )
    assert whole.threshold == chunked.threshold
    unseen = OneLabelRows(
        np.array([-1]),
        np.array([0]),
        np.array([np.nan]),
        rows.topk_ids_BK[:1],
        rows.topk_log_probs_BK[:1],
        rows.square_sums_B[:1],
    )
    assert label_scores(LAC(), unseen, None).tolist() == [np.inf]


def test_refuses_what_cannot_be_promised() -> None:
    rows, _ = split(12, 200, 1, 5)
    with pytest.raises(UsageError, match=re.escape("must be a number in (0.0, 1.0); got 1.5")):
        ConformalSets.fit([rows], score=LAC(), alpha=1.5, num_classes=C)
    with pytest.raises(UsageError, match=re.escape("pass generator=np.random.default_rng(seed)")):
        ConformalSets.fit([rows], score=APS(), alpha=ALPHA, num_classes=C)
    with pytest.raises(UsageError, match=r"of the held-out labels are not among the listed classes"):
        ConformalSets.fit([rows], score=LAC(), alpha=0.02, num_classes=C)
    with pytest.raises(UsageError, match=r"alpha 0\.001 needs at least 999 held-out rows; got 200"):
        ConformalSets.fit([rows], score=LAC(), alpha=0.001, num_classes=C)
    with pytest.raises(UsageError, match="needs at least 9 held-out rows; got 0"):
        ConformalSets.fit([], score=LAC(), alpha=ALPHA, num_classes=C)
    other, _ = split(12, 20, 1, 6)
    with pytest.raises(ShapeError, match=re.escape("the same number of classes; got [5, 6]")):
        ConformalSets.fit([rows, other], score=LAC(), alpha=ALPHA, num_classes=C)
    with pytest.raises(ShapeError, match=re.escape("must list 5 classes a row")):
        ConformalSets(LAC(), ALPHA, 5, C, 0.9).predict(np.zeros((2, 4)))
