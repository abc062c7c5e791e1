"""Mean cross-entropy of a linear model with a penalty, and a bound on the distance to its optimum.

Shapes: N rows, D features, F = D + 1 rows of weights with the biases last (F = D without), K vectors of
weights: one a class of a softmax, or one a yes-or-no question, of which two classes are a single one.
"""

from dataclasses import dataclass

import numpy as np

from widemax import native
from widemax.solvers.penalty import Penalty
from widemax.solvers.products import Array, Products

# Logits and probabilities of one block stay in the cache.
_BLOCK_BYTES = 1 << 20
_BIAS_STEPS = 50
_BIAS_TOLERANCE = 1e-13
_LOSS_NOISE = 1e-10


@dataclass(frozen=True)
class Outputs:
    """Logits, their probabilities, and the weighted mean of the cross-entropy."""

    logits_KN: Array
    probs_KN: Array
    loss: float


@dataclass(frozen=True)
class Point:
    """Weights with their outputs."""

    weight_FK: Array
    outputs: Outputs


@dataclass(frozen=True)
class Optimality:
    """Bounds on the distance to the optimum; ``gap`` bounds objective − optimum from above."""

    objective: float
    gradient_norm: float
    largest_gradient: float
    gap: float

    @property
    def relative_gap(self) -> float:
        return self.gap / self.objective if self.objective else self.gap


@dataclass(eq=False)
class Objective:
    """Σ_i ω_i (log Z_i − s_i,label) + h(W) with Σ ω_i = 1, in the precision of the features.

    For questions log Z_i − s_i,label stands for Σ_k softplus(s_ik) − y_ik s_ik.

    Args:
        products: the features.
        labels: the class of each row, [N] in [0, K), or the answers to K questions, [N, K] booleans.
        row_weight_N: ω, float64.
        num_vectors: K.
        penalty: h, of all rows of the weights but the biases.
        has_bias: whether the last row of the weights is added to the logits.
    """

    products: Products
    labels: Array
    row_weight_N: Array
    num_vectors: int
    penalty: Penalty
    has_bias: bool

    def __post_init__(self) -> None:
        self.is_single = self.products.dtype != np.float64
        self.is_sigmoid = self.labels.ndim == 2
        # The entry of each label, or of each yes, in a flat [K, N] array.
        num_rows = len(self.labels)
        if self.is_sigmoid:
            self._label_places = np.flatnonzero(self.labels.T)
        else:
            self._label_places = self.labels * num_rows + np.arange(num_rows)
        self._label_weight = self.row_weight_N[self._label_places % num_rows]

    @property
    def shape(self) -> tuple[int, int]:
        """[F, K], of the weights."""
        return self.products.num_features + self.has_bias, self.num_vectors

    def features_part(self, weight_FK: Array) -> Array:
        """The rows of the weights that belong to features, as a view."""
        return weight_FK[: self.products.num_features]

    def logits(self, weight_FK: Array) -> Array:
        logits_KN = self.products.logits(self.features_part(weight_FK))
        if self.has_bias:
            logits_KN += weight_FK[-1][:, None]
        return logits_KN

    def at(self, weight_FK: Array) -> Point:
        logits_KN = self.logits(weight_FK)
        return Point(weight_FK, self.outputs(logits_KN, self.label_mean(logits_KN)))

    def outputs(self, logits_KN: Array, label_mean: float) -> Outputs:
        """The outputs of logits whose mean at the labels is known."""
        probs_KN = np.empty_like(logits_KN)
        if not self.is_sigmoid and native.takes_softmax(logits_KN):
            largest_N, total_N, _ = native.softmax_into(logits_KN, probs_KN)
            return self._outputs(logits_KN, probs_KN, np.log(total_N) + largest_N, label_mean)
        log_partition_N = np.empty_like(logits_KN[0])
        normalize = _sigmoid if self.is_sigmoid else _softmax
        size = max(1, _BLOCK_BYTES // logits_KN[:, :1].nbytes)
        for start in range(0, logits_KN.shape[1], size):
            block = slice(start, start + size)
            log_partition_N[block] = normalize(logits_KN[:, block], out=probs_KN[:, block])
        return self._outputs(logits_KN, probs_KN, log_partition_N, label_mean)

    def _outputs(
        self, logits_KN: Array, probs_KN: Array, log_partition_N: Array, label_mean: float
    ) -> Outputs:
        return Outputs(logits_KN, probs_KN, float(self.row_weight_N @ log_partition_N) - label_mean)

    def along(
        self, outputs: Outputs, direction_KN: Array, length: float, label_mean: float
    ) -> tuple[Outputs, float]:
        """Outputs at a length along a direction of the logits, whose mean at the labels is known there.

        And Σ_i ω_i times the slope of log Z_i along it.
        """
        logits_KN = outputs.logits_KN
        if not self.is_sigmoid and native.takes_softmax(logits_KN, direction_KN):
            moved_KN, probs_KN = np.empty((2, *logits_KN.shape), logits_KN.dtype)
            into = native.softmax_into(logits_KN, probs_KN, (direction_KN, length, moved_KN))
            largest_N, total_N, mean_N = into
            moved = self._outputs(moved_KN, probs_KN, np.log(total_N) + largest_N, label_mean)
        else:
            moved = self.outputs(logits_KN + length * direction_KN, label_mean)
            mean_N = (moved.probs_KN * direction_KN).sum(axis=0)
        return moved, float(self.row_weight_N @ mean_N)

    def label_mean(self, values_KN: Array) -> float:
        """Σ_i ω_i v_i,label."""
        return float(self._label_weight @ values_KN.ravel().take(self._label_places))

    def value(self, point: Point) -> float:
        return point.outputs.loss + self.penalty.value(self.features_part(point.weight_FK))

    def residual(self, outputs: Outputs) -> Array:
        """∂ loss / ∂ logits, [K, N]."""
        residual_KN: Array = outputs.probs_KN * self.row_weight_N.astype(self.products.dtype)
        residual_KN.ravel()[self._label_places] -= self._label_weight
        return residual_KN

    def gradient(self, point: Point) -> Array:
        """Gradient of the cross-entropy and l2/2 ‖W‖², without the L1 part."""
        residual_KN = self.residual(point.outputs)
        weight_DK = self.features_part(point.weight_FK)
        gradient_DK = self.products.pull_back(residual_KN) + weight_DK.dtype.type(self.penalty.l2) * weight_DK
        if not self.has_bias:
            return np.ascontiguousarray(gradient_DK)
        return np.concatenate([gradient_DK, residual_KN.sum(axis=1)[None]])

    def with_best_bias(self, point: Point) -> Point:
        """The point with the biases that minimize the objective, weights held, by Newton's method.

        The same point where they do already.
        """
        if not self.has_bias:
            return point
        outputs = point.outputs
        total_K = np.zeros(self.num_vectors)
        for _ in range(_BIAS_STEPS):
            gradient_K = self.residual(outputs).sum(axis=1)
            if np.abs(gradient_K).max() <= _BIAS_TOLERANCE:
                break
            weighted_KN = outputs.probs_KN * self.row_weight_N
            square_KK = weighted_KN @ outputs.probs_KN.T
            if self.is_sigmoid:
                square_KK = np.diag(square_KK.diagonal())
            hessian_KK = np.diag(weighted_KN.sum(axis=1)) - square_KK
            step_K = np.linalg.lstsq(hessian_KK, -gradient_K, rcond=None)[0]
            moved = self._shifted(outputs, step_K)
            while moved.loss > outputs.loss + _LOSS_NOISE:
                step_K /= 4
                moved = self._shifted(outputs, step_K)
            outputs = moved
            total_K += step_K
        if outputs is point.outputs:
            return point
        weight_FK = point.weight_FK.copy()
        weight_FK[-1] += total_K
        return Point(weight_FK, outputs)

    def _shifted(self, outputs: Outputs, bias_K: Array) -> Outputs:
        logits_KN = outputs.logits_KN + bias_K[:, None]
        return self.outputs(logits_KN, self.label_mean(logits_KN))

    def optimality(self, point: Point, gradient_FK: Array) -> Optimality:
        """The duality gap at the dual point of the probabilities; see docs/softmax-regression.md.

        The bound is sound where the biases are at their best, that is after ``with_best_bias``.
        """
        weight_DK, gradient_DK = map(self.features_part, (point.weight_FK, gradient_FK))
        shortest_FK = gradient_FK.copy()
        self.features_part(shortest_FK)[:] = self.penalty.subgradient(weight_DK, gradient_DK)
        return Optimality(
            objective=self.value(point),
            gradient_norm=float(np.linalg.norm(shortest_FK)),
            largest_gradient=float(np.abs(shortest_FK).max()),
            gap=self._gap(point, weight_DK, gradient_DK),
        )

    def _gap(self, point: Point, weight_DK: Array, gradient_DK: Array) -> float:
        penalty = self.penalty
        if not penalty.l1:
            return float(np.square(gradient_DK).sum()) / (2 * penalty.l2) if penalty.l2 else float("inf")
        slope_DK = gradient_DK - penalty.l2 * weight_DK
        if penalty.l2:
            return penalty.fenchel_gap(weight_DK, slope_DK)
        # Without l2 the dual point is moved towards the labels until it is feasible.
        share = min(1.0, penalty.l1 / max(float(np.abs(slope_DK).max()), np.finfo(float).tiny))
        return self._divergence(point, share) + penalty.fenchel_gap(weight_DK, share * slope_DK)

    def _divergence(self, point: Point, share: float) -> float:
        """Σ_i ω_i KL((1 − share) onehot_i + share p_i ‖ p_i), which is 0 at share 1."""
        if share == 1:
            return 0.0
        probs_KN = point.outputs.probs_KN
        if self.is_sigmoid:
            prob = np.where(self.labels.T, probs_KN, 1 - probs_KN)
        else:
            prob = np.take_along_axis(probs_KN, self.labels[None], 0)
        dual = 1 - share + share * prob
        others = share * (1 - prob) * np.log(share)
        return float(self.row_weight_N @ (dual * np.log(dual / prob) + others).sum(axis=0))

    def second_derivative(self, outputs: Outputs, direction_KN: Array) -> float:
        """Second derivative of the loss along a direction of the logits."""
        weighted_KN = outputs.probs_KN * direction_KN
        subtracted_KN = weighted_KN if self.is_sigmoid else weighted_KN.sum(axis=0)
        curvature_N = (weighted_KN * (direction_KN - subtracted_KN)).sum(axis=0)
        return float(self.row_weight_N @ curvature_N)


def _softmax(logits_KN: Array, *, out: Array) -> Array:
    """Probabilities into ``out``; returns log Z, [N]."""
    largest_N = logits_KN.max(axis=0)
    np.subtract(logits_KN, largest_N, out=out)
    np.exp(out, out=out)
    total_N = out.sum(axis=0)
    out /= total_N
    log_partition_N: Array = np.log(total_N) + largest_N
    return log_partition_N


def _sigmoid(logits_KN: Array, *, out: Array) -> Array:
    """Probabilities of yes into ``out``; returns Σ_k softplus(s_k), [N]."""
    small_KN = np.exp(-np.abs(logits_KN))
    np.copyto(out, small_KN)
    out[logits_KN > 0] = 1
    out /= 1 + small_KN
    log_partition_N: Array = (np.maximum(logits_KN, 0) + np.log1p(small_KN)).sum(axis=0)
    return log_partition_N
