"""The optimum of a linear model's cross-entropy: first in float32, then proven in float64.

Shapes: N rows, D features, F = D + 1 with biases (F = D without), K vectors of weights, M chosen rows.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from widemax.options import checked
from widemax.solvers import lbfgs, proximal
from widemax.solvers.curvature import InverseHessian
from widemax.solvers.objective import Objective, Point
from widemax.solvers.penalty import Penalty
from widemax.solvers.products import Array, DenseProducts, products
from widemax.solvers.solution import Solution

Build = Callable[[npt.DTypeLike, Array | None], Objective]
"""The objective in a precision, over some rows or over all."""

_SMALL = 1_000_000
"""With at most so many products of a feature and a weight the float32 stage costs more than it saves."""

_ONE_THREAD = 30_000_000
"""With at most so many, starting a second thread costs more than it saves."""

_KEPT_BYTES = 30_000_000
"""Below 32 MiB, the largest block whose size the GNU C library learns from."""

_SAMPLE_SHARE = 8
_SAMPLE_GAIN = 0.02


@checked
def minimize_cross_entropy(
    features: Any,
    labels: Array,
    row_weight: Array,
    start: Array,
    *,
    C: Annotated[float, Field(gt=0.0, allow_inf_nan=True)],
    l1_ratio: float,
    tol: float,
    max_iter: int,
    generator: np.random.Generator,
) -> Solution:
    """The optimum of Σ_i ω_i (log Z_i − s_i,label) + λ ((1 − r)/2 ‖W‖² + r ‖W‖₁), biases unpenalized.

    ω_i is the share of row i in all weights, λ = 1 / (C Σ_i w_i), r = l1_ratio. With answers to questions
    the loss of a row is Σ_k softplus(s_ik) − y_ik s_ik.

    Args:
        features: [N, D], dense or CSR, in float32 or float64.
        labels: class ids [N], or the answers to K questions, [N, K] booleans.
        row_weight: w, [N] in float64; its sum is positive.
        start: weights to start from, [F, K] in float64.
        C: inverse strength of the penalty, above 0; inf is no penalty.
        l1_ratio: r, in [0, 1].
        tol: relative duality gap to stop at; without any penalty, the largest entry of the gradient.
        max_iter: at most so many steps over all rows, in both precisions together.
        generator: draws the rows from which curvature and a first start are estimated.

    Returns:
        Weights rounded to the precision of the features; objective, gap and gradient are of these.
    """
    strength = 1 / (C * float(row_weight.sum()))
    penalty = Penalty(l1=l1_ratio * strength, l2=(1 - l1_ratio) * strength)

    def build(dtype: npt.DTypeLike, ids_M: Array | None) -> Objective:
        some = slice(None) if ids_M is None else ids_M
        return Objective(
            products(features if ids_M is None else features[ids_M], dtype),
            labels[some],
            row_weight[some] / row_weight[some].sum(),
            num_vectors=start.shape[1],
            penalty=penalty,
            has_bias=len(start) > features.shape[1],
        )

    # The GNU C library keeps as much as the largest block it got back: what a step frees is there for the
    # next, whose new pages would take a quarter of the time.
    np.empty(_KEPT_BYTES, np.uint8)
    objective = build(np.float64, None)
    # Sparse products have threads of their own, which idle BLAS threads slow down by busy waiting.
    is_large = isinstance(objective.products, DenseProducts) and _num_products(objective) > _ONE_THREAD
    with _blas().limit(limits=None if is_large else 1, user_api="blas"):
        if penalty.l1:
            point, gradient_FK, steps = proximal.minimize(objective, start, tol=tol, max_iter=max_iter)
        else:
            point, gradient_FK, steps = _smooth(objective, build, start, tol, max_iter, generator)
        settled = objective.with_best_bias(point)
        if settled is not point:
            point, gradient_FK = settled, objective.gradient(settled)
        optimality = objective.optimality(point, gradient_FK)
        unpenalized = not penalty.l1 and not penalty.l2
        converged = (optimality.largest_gradient if unpenalized else optimality.relative_gap) <= tol
        if features.dtype != np.float64:
            rounded_FK = point.weight_FK.astype(features.dtype).astype(np.float64)
            point = objective.with_best_bias(objective.at(rounded_FK))
            optimality = objective.optimality(point, objective.gradient(point))
    return Solution(
        point.weight_FK.astype(features.dtype),
        optimality.objective,
        optimality.relative_gap,
        steps,
        converged,
        optimality.gradient_norm,
    )


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _num_products(objective: Objective) -> int:
    return objective.products.num_rows * objective.products.num_features * objective.num_vectors


def _smooth(
    objective: Objective,
    build: Build,
    weight_FK: Array,
    tol: float,
    max_iter: int,
    generator: np.random.Generator,
) -> tuple[Point, Array, int]:
    if not objective.is_sigmoid:
        # A constant added to every class changes no probability, and the penalty is least without it.
        weight_FK = weight_FK - weight_FK.mean(axis=1, keepdims=True)
    inverse, history, steps = InverseHessian(objective, generator), lbfgs.History(), 0
    if _num_products(objective) > _SMALL:
        single = build(np.float32, None)
        single_inverse, single_history = InverseHessian(single, generator), lbfgs.History()
        with np.errstate(over="ignore", invalid="ignore"):
            start_FK = _sampled_start(
                objective, build, weight_FK.astype(np.float32), tol, max_iter, generator
            )
            point, _, steps = lbfgs.minimize(
                single, start_FK, tol=tol, max_iter=max_iter, inverse=single_inverse, history=single_history
            )
        # Features out of float32's range leave no step, or an objective that is not finite.
        if steps and np.isfinite(single.value(point)):
            weight_FK = point.weight_FK.astype(np.float64)
            inverse, history = single_inverse, single_history.astype(np.float64)
    point, gradient_FK, more = lbfgs.minimize(
        objective,
        weight_FK,
        tol=tol,
        max_iter=max_iter - steps,
        inverse=inverse,
        history=history,
    )
    return point, gradient_FK, steps + more


def _sampled_start(
    objective: Objective,
    build: Build,
    weight_FK: Array,
    tol: float,
    max_iter: int,
    generator: np.random.Generator,
) -> Array:
    """The optimum of a sample of the rows, where the start is 0 and the sample is large enough."""
    num_rows = objective.products.num_rows
    num_sampled = num_rows // _SAMPLE_SHARE
    if weight_FK.any() or num_sampled < 4 * len(weight_FK):
        return weight_FK
    ids_M = np.sort(generator.choice(num_rows, num_sampled, replace=False))
    sample = build(np.float32, ids_M)
    point, _, _ = lbfgs.minimize(
        sample,
        weight_FK,
        tol=tol,
        max_iter=max_iter,
        inverse=InverseHessian(sample, generator),
        history=lbfgs.History(),
        least_gain=_SAMPLE_GAIN,
    )
    return point.weight_FK if np.isfinite(sample.value(point)) else weight_FK
