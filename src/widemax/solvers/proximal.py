"""Accelerated proximal gradient steps, for the objective with an L1 penalty.

Shapes: N rows, D features, F = D + 1 with biases (F = D without), K vectors of weights.
"""

import numpy as np

from widemax.solvers.objective import Objective, Point
from widemax.solvers.products import Array

_CHECK_EVERY = 10
_POWER_STEPS = 30


def minimize(
    objective: Objective, weight_FK: Array, *, tol: float, max_iter: int
) -> tuple[Point, Array, int]:
    """FISTA with restarts until the relative duality gap is at most ``tol``.

    The quadratic model around a point has Böhning's curvature bound ½ (¼ for a sigmoid) times a diagonal
    that is proportional to the mean square of each feature, times the largest eigenvalue after that scaling.

    Args:
        objective: one with an L1 penalty.
        weight_FK: start, float64.
        tol: relative gap to stop at.
        max_iter: at most so many steps.

    Returns:
        The point, the gradient of its smooth part, and the number of steps.

    Source: Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2009,
        eq. 4.1–4.3; Böhning, "Multinomial logistic regression algorithm", Ann. Inst. Stat. Math. 1992, the
        bound; O'Donoghue and Candès, "Adaptive restart for accelerated gradient schemes", 2015, eq. 12.
    """
    bound_F1 = _curvature_bound(objective)
    weight_FK = weight_FK.copy()
    extrapolated_FK, momentum = weight_FK, 1.0
    for step in range(max_iter):
        if step % _CHECK_EVERY == 0:
            point = objective.with_best_bias(objective.at(weight_FK))
            gradient_FK = objective.gradient(point)
            if objective.optimality(point, gradient_FK).relative_gap <= tol:
                return point, gradient_FK, step
        extrapolated = objective.at(extrapolated_FK)
        slope_FK = objective.gradient(extrapolated)
        objective.features_part(slope_FK)[:] -= objective.penalty.l2 * objective.features_part(
            extrapolated_FK
        )
        while True:
            new_FK = extrapolated_FK - slope_FK / bound_F1
            new_DK, bound_D1 = map(objective.features_part, (new_FK, bound_F1))
            new_DK[:] = objective.penalty.proximal(new_DK, bound_D1)
            move_FK = new_FK - extrapolated_FK
            model = extrapolated.outputs.loss + float(np.vdot(slope_FK, move_FK))
            model += float((bound_F1 * np.square(move_FK)).sum()) / 2
            # The largest eigenvalue is an estimate from below, so the bound may have to rise.
            if objective.at(new_FK).outputs.loss <= model + 1e-12 * abs(model):
                break
            bound_F1 *= 1.5
        if np.vdot(bound_F1 * (extrapolated_FK - new_FK), new_FK - weight_FK) > 0:
            momentum = 1.0
        new_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        extrapolated_FK = new_FK + (momentum - 1) / new_momentum * (new_FK - weight_FK)
        weight_FK, momentum = new_FK, new_momentum
    point = objective.with_best_bias(objective.at(weight_FK))
    return point, objective.gradient(point), max_iter


def _curvature_bound(objective: Objective) -> Array:
    """A diagonal above the Hessian of the loss, for every point and class, [F, 1]."""
    products, row_weight_N = objective.products, objective.row_weight_N
    square_F = products.squares(row_weight_N[None])[:, 0]
    if objective.has_bias:
        square_F = np.append(square_F, 1.0)
    square_F = np.where(square_F > 0, square_F, 1.0)
    vector_F1 = np.ones((len(square_F), 1))
    eigenvalue = 1.0
    for _ in range(_POWER_STEPS):
        logits_1N = objective.logits(vector_F1 / np.sqrt(square_F)[:, None]) * row_weight_N
        image_F1 = products.pull_back(logits_1N)
        if objective.has_bias:
            image_F1 = np.append(image_F1, logits_1N.sum())[:, None]
        image_F1 = image_F1 / np.sqrt(square_F)[:, None]
        eigenvalue = float(np.linalg.norm(image_F1)) / float(np.linalg.norm(vector_F1))
        vector_F1 = image_F1 / np.linalg.norm(image_F1)
    bound = 0.25 if objective.is_sigmoid else 0.5
    bound_F1: Array = 1.05 * bound * eigenvalue * square_F[:, None]
    return bound_F1
