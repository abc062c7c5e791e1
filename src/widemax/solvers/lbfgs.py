"""Preconditioned L-BFGS, for the objective without an L1 penalty.

Shapes: N rows, F features and biases, K vectors of weights.
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from widemax.solvers.curvature import InverseHessian, Preconditioner
from widemax.solvers.objective import Objective, Point
from widemax.solvers.products import Array

_MEMORY = 5
_SLOPE_SHARE = 0.4
_TRIALS = 30


class Correction(NamedTuple):
    """A step, the change of the gradient along it, and 1 / ⟨step, change⟩."""

    step_FK: Array
    change_FK: Array
    inverse: float


class History:
    """The latest corrections, from which L-BFGS estimates the curvature."""

    def __init__(self) -> None:
        self._corrections: deque[Correction] = deque(maxlen=_MEMORY)

    def add(self, step_FK: Array, change_FK: Array) -> None:
        product = float(np.vdot(step_FK, change_FK))
        if product > 0:
            self._corrections.append(Correction(step_FK, change_FK, 1 / product))

    def astype(self, dtype: npt.DTypeLike) -> "History":
        """The same in another precision."""
        history = History()
        for step_FK, change_FK, _ in self._corrections:
            history.add(step_FK.astype(dtype), change_FK.astype(dtype))
        return history

    def direction(self, gradient_FK: Array, precondition: Preconditioner) -> Array:
        """−H⁻¹ gradient by the two-loop recursion around a preconditioner scaled to the latest correction."""
        rest_FK = gradient_FK.copy()
        shares = []
        for step_FK, change_FK, inverse in reversed(self._corrections):
            shares.append(inverse * float(np.vdot(step_FK, rest_FK)))
            _add(rest_FK, -shares[-1], change_FK)
        direction_FK = precondition(rest_FK)
        if self._corrections:
            _, change_FK, inverse = self._corrections[-1]
            direction_FK /= inverse * float(np.vdot(change_FK, precondition(change_FK)))
        for (step_FK, change_FK, inverse), share in zip(self._corrections, reversed(shares), strict=True):
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
    history: History,
    least_gain: float = 0.0,
) -> tuple[Point, Array, int]:
    """Steps until the relative duality gap is at most ``tol``, or the precision is exhausted.

    Args:
        objective: one without an L1 penalty.
        weight_FK: start, in the objective's precision.
        tol: relative gap to stop at; without any penalty, the largest entry of the gradient.
        max_iter: at most so many steps.
        inverse: the preconditioner, computed again as the curvature changes.
        history: earlier corrections; new ones are added.
        least_gain: stop where a step is expected to lower the objective by a smaller share than this.

    Returns:
        The point, the gradient there, and the number of steps.
    """
    point = objective.at(weight_FK)
    if not objective.is_single:
        point = objective.with_best_bias(point)
    gradient_FK = objective.gradient(point)
    for step in range(max_iter):
        if _seems_optimal(objective, point, gradient_FK, tol):
            if objective.is_single:
                return point, gradient_FK, step
            settled = objective.with_best_bias(point)
            if settled is not point:
                point, gradient_FK = settled, objective.gradient(settled)
            if _seems_optimal(objective, point, gradient_FK, tol):
                return point, gradient_FK, step
        direction_FK = history.direction(gradient_FK, inverse.at(point))
        if -float(np.vdot(gradient_FK, direction_FK)) < 2 * least_gain * objective.value(point):
            return point, gradient_FK, step
        moved = line_search(objective, point, gradient_FK, direction_FK)
        if moved is None:
            return point, gradient_FK, step
        new_gradient_FK = objective.gradient(moved)
        history.add(moved.weight_FK - point.weight_FK, new_gradient_FK - gradient_FK)
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

    Products with the features are taken once; a trial costs O(NK). None where the slope, or the decrease,
    is below the rounding error.

    Source: Hager and Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line
        search", SIAM J. Optim. 2005, sec. 4 (approximate Wolfe conditions).
    """
    eps = float(np.finfo(objective.products.dtype).eps)
    value = objective.value(point)
    slope = float(np.vdot(gradient_FK, direction_FK))
    # float32 ends where the objective no longer decreases measurably; float64 goes on by the slope alone.
    if not -slope > (eps / 8 * abs(value) if objective.is_single else 0):
        return None
    direction_KN = objective.logits(direction_FK)
    label_mean = objective.label_mean(point.outputs.logits_KN)
    label_slope = objective.label_mean(direction_KN)
    weight_DK, direction_DK = map(objective.features_part, (point.weight_FK, direction_FK))
    ridge_slope = objective.penalty.l2 * float(np.vdot(weight_DK, direction_DK))
    ridge_curvature = objective.penalty.l2 * float(np.vdot(direction_DK, direction_DK))
    low, high, length = 0.0, math.inf, 1.0
    for _ in range(_TRIALS):
        there = label_mean + length * label_slope
        outputs, log_slope = objective.along(point.outputs, direction_KN, length, there)
        trial_slope = log_slope - label_slope + ridge_slope + length * ridge_curvature
        gain = outputs.loss - point.outputs.loss + length * ridge_slope + length**2 / 2 * ridge_curvature
        if abs(trial_slope) <= -_SLOPE_SHARE * slope and gain <= 8 * eps * abs(value):
            return Point(point.weight_FK + length * direction_FK, outputs)
        low, high = (low, length) if trial_slope > 0 else (length, high)
        curvature = objective.second_derivative(outputs, direction_KN) + ridge_curvature
        newton = length - trial_slope / curvature if curvature > 0 else math.inf
        length = newton if low < newton < high else (low + high) / 2 if high < math.inf else 2 * length
    return None
