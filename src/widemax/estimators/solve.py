"""Softmax regression to its optimum: a draft in float32, the proof in float64.

Shapes: N rows, F features and biases, K vectors of weights.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from widemax.estimators import lbfgs, proximal
from widemax.estimators.curvature import InverseHessian
from widemax.estimators.objective import Objective, Optimality, Point
from widemax.estimators.products import Array, DenseProducts

Build = Callable[[npt.DTypeLike, Array | None], Objective]
"""The objective in a precision, over some rows or over all."""

_SMALL = 1_000_000
"""So many products of a feature and a weight are done sooner than a copy in float32."""

_ONE_THREAD = 30_000_000
"""So many are done sooner than a second thread wakes."""

_SAMPLE_SHARE = 8
_SAMPLE_GAIN = 0.02


class Solution(NamedTuple):
    """Weights and the proof of how good they are.

    Attributes:
        weight_FK: the weights, rounded to the precision asked for.
        optimality: of the rounded weights.
        num_steps: steps over all rows.
        reached: whether the tolerance was reached before rounding.
    """

    weight_FK: Array
    optimality: Optimality
    num_steps: int
    reached: bool


def solve(
    build: Build,
    weight_FK: Array,
    *,
    tol: float,
    max_iter: int,
    generator: np.random.Generator,
    dtype: npt.DTypeLike,
) -> Solution:
    """Weights that minimize the objective.

    Args:
        build: gives the objective.
        weight_FK: start, float64.
        tol: relative duality gap to stop at; without any penalty, the largest entry of the gradient.
        max_iter: at most so many steps over all rows, in both precisions together.
        generator: draws the rows from which curvature and a first draft are estimated.
        dtype: what the weights are rounded to.
    """
    objective = build(np.float64, None)
    with _blas().limit(limits=None if _needs_threads(objective) else 1, user_api="blas"):
        if objective.penalty.l1:
            point, gradient_FK, steps = proximal.minimize(objective, weight_FK, tol=tol, max_iter=max_iter)
        else:
            point, gradient_FK, steps = _smooth(objective, build, weight_FK, tol, max_iter, generator)
        settled = objective.with_best_bias(point)
        if settled is not point:
            point, gradient_FK = settled, objective.gradient(settled)
        optimality = objective.optimality(point, gradient_FK)
        unpenalized = not objective.penalty.l1 and not objective.penalty.l2
        reached = (optimality.largest_gradient if unpenalized else optimality.relative_gap) <= tol
        if np.dtype(dtype) != np.float64:
            rounded_FK = point.weight_FK.astype(dtype).astype(np.float64)
            point = objective.with_best_bias(objective.at(rounded_FK))
            optimality = objective.optimality(point, objective.gradient(point))
    return Solution(point.weight_FK.astype(dtype), optimality, steps, reached)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _needs_threads(objective: Objective) -> bool:
    # Sparse products have threads of their own, which those of BLAS slow down by waiting in a busy loop.
    return isinstance(objective.products, DenseProducts) and _num_products(objective) > _ONE_THREAD


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
        # A constant added to every class changes no probability, and the penalty wants none.
        weight_FK = weight_FK - weight_FK.mean(axis=1, keepdims=True)
    inverse, pairs, steps = InverseHessian(objective, generator), lbfgs.Pairs(), 0
    if _num_products(objective) > _SMALL:
        draft = build(np.float32, None)
        draft_inverse, draft_pairs = InverseHessian(draft, generator), lbfgs.Pairs()
        with np.errstate(over="ignore", invalid="ignore"):
            draft_FK = _sample_draft(objective, build, weight_FK.astype(np.float32), tol, max_iter, generator)
            point, _, steps = lbfgs.minimize(
                draft, draft_FK, tol=tol, max_iter=max_iter, inverse=draft_inverse, pairs=draft_pairs
            )
        # Features beyond float32 leave no step, or no number.
        if steps and np.isfinite(draft.value(point)):
            weight_FK = point.weight_FK.astype(np.float64)
            inverse, pairs = draft_inverse, draft_pairs.astype(np.float64)
    point, gradient_FK, more = lbfgs.minimize(
        objective,
        weight_FK,
        tol=tol,
        max_iter=max_iter - steps,
        inverse=inverse,
        pairs=pairs,
    )
    return point, gradient_FK, steps + more


def _sample_draft(
    objective: Objective,
    build: Build,
    weight_FK: Array,
    tol: float,
    max_iter: int,
    generator: np.random.Generator,
) -> Array:
    """A start from a sample of the rows, where the sample is small and still has rows for every weight."""
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
        pairs=lbfgs.Pairs(),
        least_gain=_SAMPLE_GAIN,
    )
    return point.weight_FK if np.isfinite(sample.value(point)) else weight_FK
