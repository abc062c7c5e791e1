"""Probabilities for data in which classes are more or less frequent than in training.

Shapes: B rows, C classes, K listed classes.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from widemax.errors import ShapeError, UsageError
from widemax.evaluation.calibration.calibrated import CalibratedTopK, normalized
from widemax.evaluation.calibration.known_logits import KnownLogits
from widemax.evaluation.calibration.log_sums import log_or_minus_inf
from widemax.evaluation.rows import FloatArray
from widemax.options import AtLeast1, checked


@checked
@dataclass(frozen=True, eq=False)
class PriorShift:
    """p_new(c|x) ∝ p(c|x) · new_c / old_c: the class frequencies changed, what each class looks like did not.

    The mass of a row's tail is taken as spread over its classes in proportion to ``old_prior``, so it changes
    by Σ_tail new / Σ_tail old. This is exact when every class is listed.

    Args:
        old_prior: share of each class in training, [C], all above 0, summing to 1.
        new_prior: share of each class now, [C], summing to 1.

    Raises:
        ShapeError: not one share a class in both.
        UsageError: shares that are not a distribution, or an old one of 0.

    Source: Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a Priori
        Probabilities (Neural Computation 2002), section 2.

    Example:
        >>> known = KnownLogits(np.array([[0, 1]]), np.log([[0.6, 0.4]]), np.zeros(1), num_classes=2)
        >>> shift = PriorShift(np.array([0.5, 0.5]), np.array([0.25, 0.75]))
        >>> np.exp(shift.apply(known).log_probs).round(3).tolist()
        [[0.333, 0.667]]
    """

    old_prior: FloatArray
    new_prior: FloatArray

    def __post_init__(self) -> None:
        if self.old_prior.ndim != 1 or self.old_prior.shape != self.new_prior.shape:
            raise ShapeError(
                f"old_prior and new_prior must hold one share a class; got shapes {self.old_prior.shape} "
                f"and {self.new_prior.shape}. Give both over the model's classes."
            )
        for name, prior_C in (("old_prior", self.old_prior), ("new_prior", self.new_prior)):
            if not (prior_C >= 0).all() or abs(prior_C.sum() - 1) > 1e-6:
                raise UsageError(f"{name} must be shares that sum to 1; they sum to {prior_C.sum():.6g}.")
        if not (self.old_prior > 0).all():
            raise UsageError("old_prior must be above 0 for every class. Add a small count to each class.")

    @classmethod
    @checked
    def fit(
        cls,
        known: KnownLogits,
        *,
        old_prior: FloatArray,
        max_iterations: AtLeast1 = 1000,
        tolerance: Annotated[float, Field(ge=0.0)] = 1e-6,
    ) -> "PriorShift":
        """Estimate the new prior from unlabeled rows by expectation maximization.

        new_c ← mean over rows of p(c|x)·(new_c/old_c) / Σ_j p(j|x)·(new_j/old_j), from new = old, until half
        of ``Σ_c |change|`` falls below ``tolerance``. No step lowers the likelihood of the rows, so stopping
        at ``max_iterations`` leaves an estimate that is short of the maximum but better than the start. The
        probabilities must be calibrated on rows with the old prior. O(B·K + C) a step.

        Two things limit the estimate. The maximum fits the accidents of the rows, the more so the more
        classes look alike and the fewer rows there are of each. And each step brings in the error of the
        tail's spread: list so many classes that the tail holds 1 % of the probability rather than 10 %.

        Args:
            known: rows of the new data; labels are not looked at.
            old_prior: share of each class in training, [C].
            max_iterations: at most so many steps.
            tolerance: the change to stop at.

        Raises:
            ShapeError: not one share a class.
            UsageError: no rows, or old shares that are not a distribution above 0.
        """
        rows = known.without_labels()
        if len(rows.ids_BK) == 0:
            raise UsageError("known must hold at least one row to estimate the new prior from; got none.")
        shift = cls(old_prior, old_prior)
        for _ in range(max_iterations):
            new_prior = shift._mean_posterior(rows)
            change = np.abs(new_prior - shift.new_prior).sum() / 2
            shift = cls(old_prior, new_prior)
            if change < tolerance:
                break
        return shift

    @checked
    def apply(self, known: KnownLogits) -> CalibratedTopK:
        """Probabilities of the listed classes under the new prior, in the order they came in.

        Raises:
            ShapeError: the rows have another number of classes.
        """
        if known.num_classes != self.old_prior.size:
            raise ShapeError(
                f"old_prior must hold one share for each of the {known.num_classes} classes; "
                f"got {self.old_prior.size}. Give it over the model's classes."
            )
        rows = known.without_labels()
        log_ratio_C = log_or_minus_inf(self.new_prior / self.old_prior)
        # Where nothing is left the ratio does not matter; 1 keeps the division defined.
        old_tail_B = np.where(rows.num_tail_B > 0, self._tail(rows, self.old_prior), 1.0)
        log_tail_ratio_B = log_or_minus_inf(self._tail(rows, self.new_prior) / old_tail_B)
        logits_BK = rows.atom_logits_BA + log_ratio_C[rows.ids_BK]
        return normalized(logits_BK, rows.log_tail + log_tail_ratio_B, rows.normalizer)

    def _tail(self, known: KnownLogits, prior_C: FloatArray) -> FloatArray:
        """The share of each row's tail in a prior, never below what so many of the rarest classes hold."""
        left_B = prior_C.sum() - prior_C[known.ids_BK].sum(axis=1)
        return np.asarray(np.maximum(left_B, known.num_tail_B * prior_C.min()) * (known.num_tail_B > 0))

    def _mean_posterior(self, known: KnownLogits) -> FloatArray:
        """The mean over rows of p_new(c|x), [C]."""
        found = self.apply(known)
        B, K = known.ids_BK.shape
        tail_share_B = self._tail(known, self.new_prior)
        # The tail's probability for each unit of prior, given to the classes that are not listed.
        density_B = np.divide(np.exp(found.log_tail), tail_share_B, out=np.zeros(B), where=tail_share_B > 0)

        def by_class(values_BK: FloatArray) -> FloatArray:
            ids = known.ids_BK.ravel()
            return np.asarray(np.bincount(ids, values_BK.ravel(), minlength=known.num_classes), np.float64)

        elsewhere_C = density_B.sum() - by_class(np.repeat(density_B[:, None], K, axis=1))
        sum_C = by_class(np.exp(found.log_probs)) + self.new_prior * np.maximum(elsewhere_C, 0.0)
        return np.asarray(sum_C / sum_C.sum(), np.float64)
