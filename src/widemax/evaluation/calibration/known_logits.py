"""What is known of rows' logits without the [B, C] matrix: the K best, the label's, and the log-partition.

Shapes: B rows, C classes, K kept classes, A atoms (classes whose logit is known: the K, and the label).
"""

# ruff: noqa: N802 - a property that gives an array ends in its shape, as every array does

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from widemax.errors import LabelError, ShapeError, UsageError
from widemax.evaluation.calibration.calibrated import Normalizer
from widemax.evaluation.calibration.log_sums import log_or_minus_inf, log_sum_exp, log_sum_of_steps
from widemax.evaluation.rows import FloatArray, IntArray
from widemax.options import AtLeast1, checked

BISECTIONS = 60
ROUNDINGS = 4
"""How many units in the last place a log-partition may be off."""


@checked
@dataclass(frozen=True, eq=False)
class KnownLogits:
    """Logits of a few classes of each row, and the log-partition of all of them.

    The other n = C − A classes form the tail. Its mass R = Z − Σ_A exp(s) is known, and a ceiling, the K-th
    logit, but not how the mass is spread. Where a sum over the tail is needed, its logits are taken to fall
    from the ceiling in equal steps: ceiling − step, …, ceiling − n·step, with the one step that gives R.
    Equal logits, the spread of maximum entropy, are an end of :meth:`log_partition_bounds` and so always err
    to the same side. In float32 R has an error of about 1e-6·Z, which a high temperature magnifies; pass the
    arrays in the dtype they were computed in, and the bounds allow for it.

    Args:
        ids_BK: the K best classes of each row, best first.
        logits_BK: their finite logits.
        log_partition_B: log Σ_j exp(s_j) over all C classes, in nats.
        num_classes: C.
        labels_B: class ids; −1 where training never saw the label. Held-out rows only.
        label_logits_B: the labels' logits; any number where the label is −1. Held-out rows only.

    Raises:
        ShapeError: the arrays do not describe the same rows, or K > C.
        UsageError: logits that are not finite, or labels without their logits.

    Example:
        >>> known = KnownLogits(np.array([[2, 0]]), np.log([[4.0, 2.0]]), np.log([8.0]), num_classes=4)
        >>> known.normalizer, known.log_tail.round(3).tolist(), known.top_log_odds_B.round(3).tolist()
        ('estimated', [0.693], [0.0])
    """

    ids_BK: IntArray
    logits_BK: FloatArray
    log_partition_B: FloatArray
    num_classes: AtLeast1
    labels_B: IntArray | None = None
    label_logits_B: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.ids_BK)
        if len(shape) != 2 or not 0 < shape[1] <= self.num_classes:
            raise ShapeError(
                f"ids_BK must list from 1 to {self.num_classes} classes a row; got shape {shape}. "
                "Ask the head for fewer."
            )
        expected = {"logits_BK": shape, "log_partition_B": shape[:1]}
        if (self.labels_B is None) != (self.label_logits_B is None):
            raise UsageError("labels_B and label_logits_B must come together; one is missing. Pass both.")
        if self.labels_B is not None:
            expected |= {"labels_B": shape[:1], "label_logits_B": shape[:1]}
        for name, must_be in expected.items():
            if np.shape(getattr(self, name)) != must_be:
                got = np.shape(getattr(self, name))
                raise ShapeError(f"{name} must be of shape {must_be}; got {got}. Take it from the same rows.")
        if not (np.isfinite(self.logits_BK).all() and np.isfinite(self.log_partition_B).all()):
            raise UsageError("logits_BK and log_partition_B must be finite. Leave out excluded classes.")

    @property
    def normalizer(self) -> Normalizer:
        """Whether sums over all classes can be taken exactly: when at most one class is not listed."""
        return "exact" if self.num_classes - self.ids_BK.shape[1] <= 1 else "estimated"

    def held_out(self) -> "KnownLogits":
        """The rows whose label training saw.

        Raises:
            UsageError: no labels, or none that training saw.
            LabelError: a label of C or above.
        """
        if self.labels_B is None or self.label_logits_B is None or not (self.labels_B >= 0).any():
            raise UsageError("labels_B must hold a label that training saw, for there to be rows to fit on.")
        if self.labels_B.max() >= self.num_classes:
            row = int(self.labels_B.argmax())
            raise LabelError(
                f"labels_B must lie in [-1, {self.num_classes}); got {self.labels_B[row]} at row {row}. "
                "Pass -1 for a label that training never saw."
            )
        seen = self.labels_B >= 0
        rows = (self.ids_BK[seen], self.logits_BK[seen], self.log_partition_B[seen], self.num_classes)
        return KnownLogits(*rows, self.labels_B[seen], self.label_logits_B[seen])

    def without_labels(self) -> "KnownLogits":
        """The same rows as a prediction sees them."""
        return replace(self, labels_B=None, label_logits_B=None)

    @cached_property
    def atom_ids_BA(self) -> IntArray:
        """The classes whose logit is known; −1 fills the label's place where it is among the K."""
        if self.labels_B is None:
            return self.ids_BK
        is_listed_B = (self.ids_BK == self.labels_B[:, None]).any(axis=1)
        return np.column_stack([self.ids_BK, np.where(is_listed_B, -1, self.labels_B)])

    @cached_property
    def atom_logits_BA(self) -> FloatArray:
        """Their logits; −inf where the id is −1."""
        logits_BK = self.logits_BK.astype(np.float64)
        if self.label_logits_B is None:
            return logits_BK
        return np.column_stack(
            [logits_BK, np.where(self.atom_ids_BA[:, -1] < 0, -np.inf, self.label_logits_B)]
        )

    @cached_property
    def num_tail_B(self) -> IntArray:
        """How many classes have an unknown logit."""
        return np.asarray(self.num_classes - (self.atom_ids_BA >= 0).sum(axis=1), np.int64)

    @cached_property
    def log_tail(self) -> FloatArray:
        """log(Z − Σ_A exp(s)), at most log(tail classes) + the ceiling; −inf where nothing is left."""
        log_partition_B = self.log_partition_B.astype(np.float64)
        log_share_B = np.minimum(log_sum_exp(self.atom_logits_BA) - log_partition_B, 0.0)
        log_tail_B = log_partition_B + log_or_minus_inf(-np.expm1(log_share_B))
        return np.minimum(log_tail_B, self._log_most_tail_B)

    @property
    def _ceiling_B(self) -> FloatArray:
        return self.logits_BK[:, -1].astype(np.float64)

    @property
    def _log_most_tail_B(self) -> FloatArray:
        return log_or_minus_inf(self.num_tail_B.astype(np.float64)) + self._ceiling_B

    @cached_property
    def tail_step_B(self) -> FloatArray:
        """The step for which Σ_{j=1..n} exp(ceiling − j·step) is the tail's mass; 1 where nothing is left."""
        has_tail_B = self.log_tail > -np.inf
        log_ratio_B = np.where(has_tail_B, self.log_tail - self._ceiling_B, 0.0)
        # A tail without end would need this step; one of n classes needs less.
        low_B, high_B = np.zeros(len(log_ratio_B)), np.logaddexp(0.0, -log_ratio_B)
        for _ in range(BISECTIONS):
            middle_B = (low_B + high_B) / 2
            is_low_B = log_sum_of_steps(middle_B, self.num_tail_B) > log_ratio_B
            low_B, high_B = np.where(is_low_B, middle_B, low_B), np.where(is_low_B, high_B, middle_B)
        return np.where(has_tail_B, high_B, 1.0)

    @cached_property
    def top_log_odds_B(self) -> FloatArray:
        """log(p / (1 − p)) of the best class, exact: s_1 − log(Z − exp(s_1)), without the cancellation."""
        best_B, others_BK = self.atom_logits_BA[:, 0], self.atom_logits_BA[:, 1:]
        return best_B - np.logaddexp(log_sum_exp(others_BK), self.log_tail)

    @checked
    def log_tail_at(self, temperature: float) -> FloatArray:
        """log Σ_tail exp(s_j / T) with the tail's logits in equal steps, [B]; −inf where nothing is left."""
        sum_B = log_sum_of_steps(self.tail_step_B / temperature, self.num_tail_B)
        return np.where(self.log_tail > -np.inf, self._ceiling_B / temperature + sum_B, -np.inf)

    @checked
    def mean_tail_logit_at(self, temperature: float) -> FloatArray:
        """The mean of the tail's logits under softmax(s / T), [B]: the derivative of log_tail_at by 1 / T."""
        step_B = self.tail_step_B
        over_one_B, over_all_B = (
            x_B * np.exp(-x_B) / -np.expm1(-x_B)
            for x_B in (step_B / temperature, np.maximum(self.num_tail_B, 1) * step_B / temperature)
        )
        return np.asarray(self._ceiling_B - step_B + (over_all_B - over_one_B) * temperature, np.float64)

    @checked
    def log_partition_at(self, temperature: float) -> FloatArray:
        """log Σ_j exp(s_j / T): exact for the atoms, and the tail's logits in equal steps, [B]."""
        return np.logaddexp(log_sum_exp(self.atom_logits_BA / temperature), self.log_tail_at(temperature))

    @checked
    def log_partition_bounds(self, temperature: float) -> tuple[FloatArray, FloatArray]:
        """The least and greatest log Σ_j exp(s_j / T) that agree with all that is known.

        With r_j = exp(s_j) the tail adds Σ r_j^(1/T) where 0 ≤ r_j ≤ u = exp(ceiling) and Σ r_j = R. The
        function r^(1/T) is concave for T ≥ 1 and convex for T ≤ 1, so one end is the equal spread,
        n·(R/n)^(1/T), and the other packs the mass: ⌊R/u⌋ classes at the ceiling, one with the rest, nothing
        in the others. Both ends can be reached; at T = 1 they are equal but for the rounding of R.

        Returns:
            lower [B] and upper [B].

        Example:
            >>> known = KnownLogits(np.array([[0]]), np.zeros((1, 1)), np.log([2.5]), num_classes=4)
            >>> [np.exp(bound).round(3).tolist() for bound in known.log_partition_bounds(2.0)]
            [[2.707], [3.121]]
        """
        log_partition_B = self.log_partition_B.astype(np.float64)
        precision = np.finfo(np.result_type(self.log_partition_B, self.logits_BK)).eps
        mass_B = np.exp(self.log_tail - log_partition_B)
        error_B = ROUNDINGS * precision * (1 + np.abs(log_partition_B))
        least_B, most_B = (log_or_minus_inf(mass_B + side * error_B) + log_partition_B for side in (-1, 1))
        log_known_B = log_sum_exp(self.atom_logits_BA / temperature)
        lower_B = np.minimum(*self._tail_ends(least_B, temperature))
        upper_B = np.maximum(*self._tail_ends(most_B, temperature))
        return np.logaddexp(log_known_B, lower_B), np.logaddexp(log_known_B, upper_B)

    def _tail_ends(self, log_tail_B: FloatArray, temperature: float) -> tuple[FloatArray, FloatArray]:
        """log Σ_tail exp(s_j / T) for equal logits and for packed ones, given the tail's mass."""
        log_tail_B = np.minimum(log_tail_B, self._log_most_tail_B)
        log_count_B = np.log(np.maximum(self.num_tail_B, 1))
        equal_B = log_count_B + (log_tail_B - log_count_B) / temperature
        classes_at_ceiling_B = np.exp(log_tail_B - self._ceiling_B)
        whole_B = np.floor(classes_at_ceiling_B)
        packed_B = log_or_minus_inf(whole_B + (classes_at_ceiling_B - whole_B) ** (1 / temperature))
        return equal_B, self._ceiling_B / temperature + packed_B
