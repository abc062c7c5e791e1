"""L-BFGS with an approximate inverse Hessian inside, for the objective without an L1 penalty.

Shapes: N rows, F features and biases, K vectors of weights.
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from widemax.estimators.curvature import InverseHessian, Solve
from widemax.estimators.objective import Objective, Point
from widemax.estimators.products import Array

_MEMORY = 5
_SLOPE_SHARE = 0.4
_TRIALS = 30


class Pair(NamedTuple):
    """A step, the change of the gradient along it, and 1 / ⟨step, change⟩."""

    step_FK: Array
    change_FK: Array
    inverse: float


class Pairs:
    """The latest steps, from which L-BFGS knows the curvature."""

    def __init__(self) -> None:
        self._pairs: deque[Pair] = deque(maxlen=_MEMORY)

    def add(self, step_FK: Array, change_FK: Array) -> None:
        product = float(np.vdot(step_FK, change_FK))
        if product > 0:
            self._pairs.append(Pair(step_FK, change_FK, 1 / product))

    def astype(self, dtype: npt.DTypeLike) -> "Pairs":
        """The same in another precision."""
        pairs = Pairs()
        for step_FK, change_FK, _ in self._pairs:
            pairs.add(step_FK.astype(dtype), change_FK.astype(dtype))
        return pairs

    def direction(self, gradient_FK: Array, solve: Solve) -> Array:
        """−H⁻¹ gradient by the two-loop recursion around ``solve``, scaled to the latest pair."""
        rest_FK = gradient_FK.copy()
        shares = []
        for step_FK, change_FK, inverse in reversed(self._pairs):
            shares.append(inverse * float(np.vdot(step_FK, rest_FK)))
            _add(rest_FK, -shares[-1], change_FK)
        direction_FK = solve(rest_FK)
        if self._pairs:
            _, change_FK, inverse = self._pairs[-1]
            direction_FK /= inverse * float(np.vdot(change_FK, solve(change_FK)))
        for (step_FK, change_FK, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            _add(direction_FK, share - inverse * float(np.vdot(change_FK, direction_FK)), step_FK)
        return np.negative(direction_FK, out=direction_FK)


def _add(total_FK: Array, share: float, part_FK: Array) -> None:
    # In one pass without a temporary array, on all threads where it is large.
    torch.from_numpy(total_FK).add_(torch.from_numpy(part_FK), alpha=share)


def minimize(
    objective: Objective,
    weight_FK: Array,
    *,
    tol: float,
    max_iter: int,
    inverse: InverseHessian,
    pairs: Pairs,
    least_gain: float = 0.0,
) -> tuple[Point, Array, int]:
    """Steps until the relative duality gap is at most ``tol``, or the precision is exhausted.

    Args:
        objective: one without an L1 penalty.
        weight_FK: start, in the objective's precision.
        tol: relative gap to stop at; without any penalty, the largest entry of the gradient.
        max_iter: at most so many steps.
        inverse: knowledge of the curvature, renewed as it moves.
        pairs: further knowledge of the curvature, which grows.
        least_gain: stop where a step is expected to lower the objective by a smaller share than this.

    Returns:
        The point, the gradient there, and the number of steps.
    """
    point = objective.at(weight_FK)
    if not objective.is_draft:
        point = objective.with_best_bias(point)
    gradient_FK = objective.gradient(point)
    for step in range(max_iter):
        if _seems_optimal(objective, point, gradient_FK, tol):
            if objective.is_draft:
                return point, gradient_FK, step
            settled = objective.with_best_bias(point)
            if settled is not point:
                point, gradient_FK = settled, objective.gradient(settled)
            if _seems_optimal(objective, point, gradient_FK, tol):
                return point, gradient_FK, step
        direction_FK = pairs.direction(gradient_FK, inverse.at(point))
        if -float(np.vdot(gradient_FK, direction_FK)) < 2 * least_gain * objective.value(point):
            return point, gradient_FK, step
        moved = line_search(objective, point, gradient_FK, direction_FK)
        if moved is None:
            return point, gradient_FK, step
        new_gradient_FK = objective.gradient(moved)
        pairs.add(moved.weight_FK - point.weight_FK, new_gradient_FK - gradient_FK)
        point, gradient_FK = moved, new_gradient_FK
    return point, gradient_FK, max_iter


def _seems_optimal(objective: Objective, point: Point, gradient_FK: Array, tol: float) -> bool:
    """Whether the stopping rule holds, were the biases at their best."""
    if not objective.penalty.l2:
        return bool(np.abs(gradient_FK).max() <= tol)
    gradient_DK = objective.features_part(gradient_FK)
    bound = float(np.vdot(gradient_DK, gradient_DK)) / (2 * objective.penalty.l2)
    return bound <= tol * objective.value(point)


def line_search(objective: Objective, point: Point, gradient_FK: Array, direction_FK: Array) -> Point | None:
    """A point along the direction where the slope is a fraction of what it was, by Newton with a bracket.

    Products with the features are taken once; a trial costs O(NK). None where the slope, or the progress,
    drowns in rounding.

    Source: Hager and Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line
        search", SIAM J. Optim. 2005, sec. 4 (approximate Wolfe conditions).
    """
    eps = float(np.finfo(objective.products.dtype).eps)
    value = objective.value(point)
    slope = float(np.vdot(gradient_FK, direction_FK))
    # A draft ends where its objective no longer shows progress; float64 goes on by the slope alone.
    if not -slope > (eps / 8 * abs(value) if objective.is_draft else 0):
        return None
    along_KN = objective.logits(direction_FK)
    own, own_along = objective.own(point.outputs.logits_KN), objective.own(along_KN)
    weight_DK, direction_DK = map(objective.features_part, (point.weight_FK, direction_FK))
    ridge_slope = objective.penalty.l2 * float(np.vdot(weight_DK, direction_DK))
    ridge_bend = objective.penalty.l2 * float(np.vdot(direction_DK, direction_DK))
    low, high, length = 0.0, math.inf, 1.0
    for _ in range(_TRIALS):
        outputs = objective.outputs(point.outputs.logits_KN + length * along_KN, own + length * own_along)
        mean_N = (outputs.probs_KN * along_KN).sum(axis=0)
        trial_slope = float(objective.row_weight_N @ mean_N) - own_along + ridge_slope + length * ridge_bend
        gain = outputs.loss - point.outputs.loss + length * ridge_slope + length**2 / 2 * ridge_bend
        if abs(trial_slope) <= -_SLOPE_SHARE * slope and gain <= 8 * eps * abs(value):
            return Point(point.weight_FK + length * direction_FK, outputs)
        low, high = (low, length) if trial_slope > 0 else (length, high)
        bend = objective.bend(outputs, along_KN) + ridge_bend
        newton = length - trial_slope / bend if bend > 0 else math.inf
        length = newton if low < newton < high else (low + high) / 2 if high < math.inf else 2 * length
    return None
