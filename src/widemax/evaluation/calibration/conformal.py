"""Sets of classes that hold the label with a chosen probability, whatever the model is worth.

Shapes: B rows, K listed classes, N held-out rows.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from widemax.errors import ShapeError, UsageError
from widemax.evaluation.calibration.conformal_scores import ConformalScore
from widemax.evaluation.rows import FloatArray, IntArray, OneLabelRows
from widemax.options import AtLeast1, checked

Alpha = Annotated[float, Field(gt=0.0, lt=1.0)]


@dataclass(frozen=True, eq=False)
class PredictionSets:
    """The set of each row: its first ``sizes_B`` listed classes.

    Attributes:
        sizes_B: from 0 to K.
        truncated_B: whether the set might have been larger had more classes been listed. Coverage is promised
            for the sets as they are, so this is no fault; it tells where the list was short.
    """

    sizes_B: IntArray
    truncated_B: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@checked
@dataclass(frozen=True)
class ConformalSets:
    """Sets of at most k classes that hold the label of a new row with probability ≥ 1 − alpha.

    The set of a row is the listed classes whose score is at most the threshold, the
    ⌈(N + 1)(1 − alpha)⌉-th smallest score of N held-out labels. A label that is not among the k listed
    classes, or that training never saw, scores +∞: no set can hold it. This is a score like any other, so the
    promise is exact for lists of k classes, with nothing assumed of the classes that are not listed. It holds
    on average over exchangeable rows that training has not used, not for each row or class.

    Args:
        score: LAC(), APS() or RAPS(...).
        alpha: how often a set may miss the label.
        k: how many of the best classes each row lists.
        num_classes: C.
        threshold: the highest score that is let in.

    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), split conformal.

    Example:
        >>> from widemax.evaluation.calibration import LAC
        >>> log_probs = np.log([[0.7, 0.3], [0.6, 0.4], [0.9, 0.1]])
        >>> ids, labels, ranks = np.array([[0, 1]] * 3), np.array([0, 1, 0]), np.array([1, 2, 1])
        >>> squares = np.exp(2 * log_probs).sum(1)
        >>> rows = OneLabelRows(labels, ranks, log_probs[np.arange(3), ranks - 1], ids, log_probs, squares)
        >>> sets = ConformalSets.fit([rows], score=LAC(), alpha=0.5, num_classes=2)
        >>> round(sets.threshold, 3), sets.predict(np.log([[0.8, 0.2], [0.5, 0.5]])).sizes_B.tolist()
        (0.3, [1, 0])
    """

    score: ConformalScore
    alpha: Alpha
    k: AtLeast1
    num_classes: AtLeast1
    threshold: float

    @classmethod
    @checked
    def fit(
        cls,
        chunks: Iterable[OneLabelRows],
        *,
        score: ConformalScore,
        alpha: Alpha,
        num_classes: AtLeast1,
        generator: np.random.Generator | None = None,
    ) -> "ConformalSets":
        """Find the threshold on held-out rows, streamed; one number a row is kept.

        Args:
            chunks: rows that neither training nor the fit of a temperature has used, k listed classes each.
            score: LAC(), APS() or RAPS(...).
            alpha: how often a set may miss the label, in (0, 1).
            num_classes: C.
            generator: the randomness of APS and RAPS.

        Raises:
            ShapeError: chunks that list different numbers of classes.
            OptionError: alpha outside (0, 1), or another argument of a wrong kind.
            UsageError: too few rows for alpha, too many labels outside the lists, or a randomized score
                without a generator.
        """
        scores: list[FloatArray] = []
        widths: set[int] = set()
        for rows in chunks:
            widths.add(rows.topk_ids_BK.shape[1])
            scores.append(label_scores(score, rows, generator))
        if len(widths) > 1:
            raise ShapeError(f"chunks must all list the same number of classes; got {sorted(widths)}.")
        threshold = conformal_quantile(np.concatenate([np.empty(0), *scores]), alpha)
        return cls(score, alpha, widths.pop(), num_classes, threshold)

    @checked
    def predict(
        self, topk_log_probs: FloatArray, *, generator: np.random.Generator | None = None
    ) -> PredictionSets:
        """The sets of new rows.

        Args:
            topk_log_probs: log-probabilities in nats of each row's best classes, best first, [B, ≥ k]; only
                the first k are looked at.
            generator: the randomness of APS and RAPS.

        Raises:
            ShapeError: fewer than k classes a row.
            UsageError: a randomized score without a generator.
        """
        if topk_log_probs.ndim != 2 or topk_log_probs.shape[1] < self.k:
            raise ShapeError(
                f"topk_log_probs must list {self.k} classes a row, as the held-out rows did; "
                f"got shape {topk_log_probs.shape}. Ask the head for k={self.k}."
            )
        probs_BK = np.exp(topk_log_probs[:, : self.k].astype(np.float64))
        scores_BK = self.score.listed(probs_BK, draw(self.score, len(probs_BK), generator))
        truncated_B = self.score.next_at_least(probs_BK) <= self.threshold
        sizes_B = (scores_BK <= self.threshold).sum(axis=1, dtype=np.int64)
        return PredictionSets(sizes_B, truncated_B & (self.k < self.num_classes))


def draw(score: ConformalScore, num_rows: int, generator: np.random.Generator | None) -> FloatArray:
    """One uniform number a row where the score is randomized."""
    if not score.is_randomized:
        return np.zeros(num_rows)
    if generator is None:
        raise UsageError(f"{score} draws a number a row; pass generator=np.random.default_rng(seed).")
    return generator.random(num_rows)


def label_scores(
    score: ConformalScore, rows: OneLabelRows, generator: np.random.Generator | None
) -> FloatArray:
    """The score of each row's label; +∞ where it is not listed."""
    scores_BK = score.listed(
        np.exp(rows.topk_log_probs_BK.astype(np.float64)), draw(score, len(rows), generator)
    )
    is_listed_B = (rows.ranks_B >= 1) & (rows.ranks_B <= scores_BK.shape[1])
    scores_B = np.full(len(rows), np.inf)
    scores_B[is_listed_B] = scores_BK[is_listed_B, rows.ranks_B[is_listed_B] - 1]
    return scores_B


def conformal_quantile(scores: FloatArray, alpha: float) -> float:
    """The ⌈(N + 1)(1 − alpha)⌉-th smallest of N scores.

    A new score, exchangeable with the N, is at most this one with probability ≥ 1 − alpha: it is equally
    likely to take each of the N + 1 places among them.

    Args:
        scores: [N]; +∞ is a score.
        alpha: in (0, 1).

    Raises:
        UsageError: fewer than 1/alpha − 1 scores, or the one asked for is +∞.

    Source: Lei et al., Distribution-Free Predictive Inference for Regression (JASA 2018), section 2.2.

    Example:
        >>> conformal_quantile(np.arange(1.0, 10.0), 0.2)
        8.0
    """
    num_rows = scores.size
    # Without the slack, alpha = 0.29 of 100 places would be 28.999999999999996 of them.
    place = num_rows + 1 - math.floor((num_rows + 1) * alpha + 1e-9)
    if place > num_rows:
        raise UsageError(
            f"alpha {alpha:g} needs at least {math.ceil(1 / alpha - 1e-9) - 1} held-out rows; got {num_rows}."
        )
    threshold = float(np.partition(scores, place - 1)[place - 1])
    if threshold == math.inf:
        outside = float(np.isinf(scores).mean())
        raise UsageError(
            f"{outside:.1%} of the held-out labels are not among the listed classes, so sets of these cannot "
            f"hold the label in {1 - alpha:.1%} of rows. List more classes a row or raise alpha."
        )
    return threshold
