"""A weight and a bias for each class with enough held-out rows. Shapes: B rows, A atoms, M fitted classes."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from widemax.evaluation.calibration.calibrated import CalibratedTopK, Normalizer, normalized
from widemax.evaluation.calibration.known_logits import KnownLogits
from widemax.evaluation.calibration.log_sums import log_or_minus_inf, log_sum_exp
from widemax.evaluation.calibration.temperature import HIGHEST, LOWEST, prior
from widemax.evaluation.rows import FloatArray, IntArray
from widemax.options import AtLeast1, checked


@checked
@dataclass(frozen=True, eq=False)
class VectorScaling:
    """softmax(w_c · s_c + b_c), where classes with few held-out rows share one weight and have bias 0.

    The classes of a row's tail are given the shared weight w, the logits that :class:`KnownLogits` takes them
    to have, and the mean of their biases: they add Σ_tail exp(w·s) · mean_tail exp(b_c). This is exact when
    every class is listed. List so many that the tail holds little probability, or fit a :class:`Temperature`,
    which guards against the error of the tail.

    Args:
        shared_weight: w of the classes without their own; also of the tail.
        class_ids_M: the classes with their own weight and bias, ascending.
        weights_M: their weights.
        biases_M: their biases.
        normalizer: whether the fit was "exact" or rests on an "estimated" tail.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2, vector scaling.

    Example:
        >>> known = KnownLogits(np.array([[1, 0]]), np.array([[2.0, 1.0]]), np.log([np.e**2 + np.e]), 2)
        >>> scaling = VectorScaling(1.0, np.array([0]), np.array([1.0]), np.array([1.0]), "exact")
        >>> np.exp(scaling.apply(known).log_probs).round(3).tolist()
        [[0.5, 0.5]]
    """

    shared_weight: float
    class_ids_M: IntArray
    weights_M: FloatArray
    biases_M: FloatArray
    normalizer: Normalizer

    @classmethod
    @checked
    def fit(
        cls,
        known: KnownLogits,
        *,
        min_rows: AtLeast1 = 50,
        l2: Annotated[float, Field(ge=0.0)] = 10.0,
    ) -> "VectorScaling":
        """Minimize Σ_rows nll + (l2/2)·Σ_c ((w_c − w)² + b_c²), which is convex, by L-BFGS.

        To this comes the prior that :func:`fit_temperature` has on w.

        Args:
            known: held-out rows with labels; those with a label never seen are left out.
            min_rows: a class with fewer held-out rows shares its weight; if all do, w is 1/temperature.
            l2: the pull of every class towards the shared weight and bias 0.

        Raises:
            UsageError: no row has a label that training saw.
        """
        # The optimizers of scipy take longer to import than the rest of this room together.
        from scipy.optimize import minimize

        rows = known.held_out()
        assert rows.labels_B is not None
        ids, counts = np.unique(rows.labels_B, return_counts=True)
        objective = Objective(rows, ids[counts >= min_rows], l2)
        start = np.zeros(1 + 2 * objective.num_fitted)
        start[0] = 1.0
        bounds = [(1 / HIGHEST, 1 / LOWEST)] + [(None, None)] * (start.size - 1)
        params = minimize(
            objective, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 1000}
        ).x
        weight_M1, bias_M1 = objective.per_class(params)
        return cls(
            float(params[0]), objective.class_ids_M, weight_M1[:-1], bias_M1[:-1], normalizer_of(known)
        )

    @checked
    def apply(self, known: KnownLogits) -> CalibratedTopK:
        """Scaled probabilities of the listed classes, in the order they came in; labels are not looked at."""
        rows = known.without_labels()
        slots_BK = slots(self.class_ids_M, rows.ids_BK)
        weight_M1, bias_M1 = np.append(self.weights_M, self.shared_weight), np.append(self.biases_M, 0.0)
        logits_BK = weight_M1[slots_BK] * rows.atom_logits_BA + bias_M1[slots_BK]
        log_tail_B = scaled_tail(rows, slots_BK, self.shared_weight, bias_M1)
        return normalized(logits_BK, log_tail_B, normalizer_of(rows))


def normalizer_of(known: KnownLogits) -> Normalizer:
    """Exact only when every class is listed: even a tail of one class is not given a weight of its own."""
    return "exact" if known.ids_BK.shape[1] == known.num_classes else "estimated"


def slots(class_ids_M: IntArray, ids: IntArray) -> IntArray:
    """The place of each class among the fitted ones; M for all others."""
    place = np.searchsorted(class_ids_M, ids)
    if class_ids_M.size == 0:
        return place
    is_fitted = class_ids_M[np.minimum(place, class_ids_M.size - 1)] == ids
    return np.where(is_fitted, place, class_ids_M.size)


def tail_factor(known: KnownLogits, slots_BA: IntArray, bias_M1: FloatArray) -> FloatArray:
    """Σ exp(b_c) over each row's tail, [B]; padding counts as no class."""
    factor_BA = np.where(known.atom_ids_BA >= 0, np.exp(bias_M1)[slots_BA], 0.0)
    total = np.exp(bias_M1[:-1]).sum() + known.num_classes - (bias_M1.size - 1)
    # Never below the least that so many classes can add: the difference may round to less.
    least_B = known.num_tail_B * np.exp(bias_M1.min())
    return np.asarray(np.maximum(total - factor_BA.sum(axis=1), least_B), np.float64)


def scaled_tail(known: KnownLogits, slots_BA: IntArray, weight: float, bias_M1: FloatArray) -> FloatArray:
    """log(Σ_tail exp(w·s) · mean_tail exp(b_c)), [B]; −inf where nothing is left."""
    mean_factor_B = tail_factor(known, slots_BA, bias_M1) / np.maximum(known.num_tail_B, 1)
    return known.log_tail_at(1 / weight) + log_or_minus_inf(mean_factor_B)


class Objective:
    """The penalized mean nll of held-out rows and its gradient over (w, w_c − w, b_c)."""

    def __init__(self, known: KnownLogits, class_ids_M: IntArray, l2: float) -> None:
        assert known.labels_B is not None
        self.known, self.class_ids_M, self.l2 = known, class_ids_M, l2
        self.num_fitted = class_ids_M.size
        self.is_atom_BA = known.atom_ids_BA >= 0
        self.is_label_BA = known.atom_ids_BA == known.labels_B[:, None]
        self.slots_BA = slots(class_ids_M, known.atom_ids_BA)
        self.logits_BA = np.where(self.is_atom_BA, known.atom_logits_BA, 0.0)

    def per_class(self, params: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weights and biases [M + 1], the last being those of all other classes."""
        delta_M, bias_M = np.split(params[1:], 2)
        return params[0] + np.append(delta_M, 0.0), np.append(bias_M, 0.0)

    def sum_by_slot(self, values_BA: FloatArray) -> FloatArray:
        by_slot = np.bincount(self.slots_BA.ravel(), values_BA.ravel(), minlength=self.num_fitted + 1)
        return np.asarray(by_slot, np.float64)

    def __call__(self, params: FloatArray) -> tuple[float, FloatArray]:
        known, B = self.known, len(self.logits_BA)
        weight_M1, bias_M1 = self.per_class(params)
        scaled_BA = weight_M1[self.slots_BA] * self.logits_BA + bias_M1[self.slots_BA]
        scaled_BA = np.where(self.is_atom_BA, scaled_BA, -np.inf)
        log_tail_B = scaled_tail(known, self.slots_BA, params[0], bias_M1)
        log_partition_B = np.logaddexp(log_sum_exp(scaled_BA), log_tail_B)
        nll = (log_partition_B - scaled_BA[self.is_label_BA]).sum()

        gradient_BA = np.exp(scaled_BA - log_partition_B[:, None]) - self.is_label_BA
        tail_prob_B = np.exp(log_tail_B - log_partition_B)
        tail_logit_B = known.mean_tail_logit_at(1 / params[0])
        weight_gradient_M1 = self.sum_by_slot(gradient_BA * self.logits_BA)
        shared_gradient = weight_gradient_M1.sum() + (tail_prob_B * tail_logit_B).sum()

        factor_B = tail_factor(known, self.slots_BA, bias_M1)
        share_B = np.divide(tail_prob_B, factor_B, out=np.zeros(B), where=factor_B > 0)
        listed_share_M1 = self.sum_by_slot(np.where(self.is_atom_BA, share_B[:, None], 0.0))
        tail_gradient_M1 = np.exp(bias_M1) * (share_B.sum() - listed_share_M1)
        bias_gradient_M1 = self.sum_by_slot(gradient_BA) + tail_gradient_M1

        gradient = np.concatenate([[shared_gradient], weight_gradient_M1[:-1], bias_gradient_M1[:-1]])
        gradient[1:] += self.l2 * params[1:]
        penalty, gradient_of_penalty = prior(params[0])
        gradient[0] += gradient_of_penalty
        return (nll + penalty + self.l2 / 2 * (params[1:] ** 2).sum()) / B, gradient / B
