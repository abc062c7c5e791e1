"""The optimum of a linear model's hinge loss with a penalty, by smooth bounds from below or dual coordinates.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn.functional import one_hot

from widemax.losses import crammer_singer, one_vs_rest_hinge, sparsemax_loss, weston_watkins
from widemax.options import checked
from widemax.solvers.change_of_variables import ChangeOfVariables
from widemax.solvers.liblinear import dual_coordinate_descent
from widemax.solvers.products import Array, Products, products
from widemax.solvers.solution import Solution

HingeLoss = Literal["crammer_singer", "weston_watkins", "one_vs_rest"]

_SHRINK = 4
_CHEAP = 1_000_000
_FIRST_VIOLATION, _VIOLATION_OF_GAP = 0.1, 30
_NEWTON_STEPS, _HALVINGS, _LARGEST_GRADIENT = 50, 20, 1e-13


@checked
def minimize_hinge(
    features: Any,
    labels: Array,
    row_weight: Array,
    start: Array,
    *,
    loss: HingeLoss,
    C: float,
    tol: float,
    max_iter: int,
) -> Solution:
    """The optimum of Σ_i ω_i ℓ_i + λ/2 ‖W‖², with biases penalized.

    ω_i is the share of row i in all weights, λ = 1 / (C Σ_i w_i). By L-BFGS on bounds of shrinking width, or
    for many sparse rows with a loss that liblinear has by dual coordinate descent, which knows no start.

    Args:
        features: [N, D], dense or CSR.
        labels: class ids, [N].
        row_weight: w, [N] in float64; its sum is positive.
        start: weights to start from, [F, K] in float64.
        loss: ℓ, with margin 1; with one vector of weights all are the hinge of two classes.
        C: inverse strength of the penalty, above 0.
        tol: relative duality gap to stop at.
        max_iter: at most so many steps, or passes over the rows.

    Returns:
        The weights of the smallest gap, in float64.
    """
    problem = HingeObjective(
        products(features, np.float64), torch.from_numpy(labels), row_weight, loss, C, start.shape
    )
    # Small problems keep the solver that does not depend on the order of rows.
    is_large = issparse(features) and start.size * len(labels) > _CHEAP
    if is_large and row_weight.all() and (loss != "weston_watkins" or start.shape[1] == 1):
        return _by_dual_coordinates(problem, features, labels, row_weight, loss, C, tol, max_iter)
    width, steps, weight_FK, value = 1.0, 0, start, problem.value(start)
    best = Solution(start, value, float("inf"), 0, converged=False)
    smoothing, _ = problem.gap(start, width)
    while True:
        # The minimum of the bound is needed no more exactly than the bound approximates the objective.
        enough = max(tol * value, smoothing) / 4
        weight_FK, more = problem.minimize_smooth(weight_FK, width, enough=enough, max_iter=max_iter - steps)
        steps, value = steps + more, problem.value(weight_FK)
        smoothing, distance = problem.gap(weight_FK, width)
        gap = (smoothing + distance) / value if value else smoothing + distance
        # Where the width is too small for float64 the gap no longer falls.
        improves = gap < best.gap
        if improves:
            best = Solution(weight_FK, value, gap, steps, converged=gap <= tol)
        if best.converged or steps >= max_iter or not improves:
            return best._replace(num_steps=steps)
        width, smoothing = width / _SHRINK, smoothing / _SHRINK


def _by_dual_coordinates(
    problem: "HingeObjective",
    features: Any,
    labels: Array,
    row_weight: Array,
    loss: HingeLoss,
    C: float,
    tol: float,
    max_iter: int,
) -> Solution:
    violation, steps = min(_FIRST_VIOLATION, _VIOLATION_OF_GAP * tol), 0
    while True:
        weight_FK, part_NK, more = dual_coordinate_descent(
            features,
            labels,
            row_weight,
            crammer_singer=loss == "crammer_singer",
            C=C,
            fit_intercept=problem.num_biases > 0,
            violation=max(violation, np.finfo(float).tiny),
            max_iter=max_iter - steps,
        )
        steps, value = steps + more, problem.value(weight_FK)
        slope_NK = torch.from_numpy(part_NK / (-C * row_weight[:, None]))
        slope_NC = torch.cat([-slope_NK, slope_NK], dim=1) if slope_NK.shape[1] == 1 else slope_NK
        gap = sum(problem.gap_of(weight_FK, slope_NC)) / value
        if gap <= tol or steps >= max_iter:
            return Solution(weight_FK, value, gap, steps, converged=gap <= tol)
        violation *= min(max(tol / gap, 0.1), 0.5)


class HingeObjective:
    """The objective, and its smooth bound from below."""

    def __init__(
        self,
        features: Products,
        labels_N: Tensor,
        weight_N: Array,
        loss: HingeLoss,
        C: float,
        shape: tuple[int, int],
    ) -> None:
        self.strength = float(1 / (C * weight_N.sum()))
        self._features = features
        self._labels_N = labels_N
        self._share_N = torch.from_numpy(weight_N / weight_N.sum())
        # With two classes all are one hinge, and this one is the cheapest to compute.
        self._loss = "weston_watkins" if shape[1] == 1 else loss
        self._shape = shape
        self._answers_NK = one_hot(labels_N, max(shape[1], 2))
        self.num_biases = shape[0] - features.num_features

    @cached_property
    def change_of_variables(self) -> ChangeOfVariables:
        return ChangeOfVariables(self._features, self._share_N.numpy(), self.strength, self._shape)

    def value(self, weight_FK: Array) -> float:
        loss_N = self._hinge(self._logits(weight_FK))
        return float(self._share_N @ loss_N) + self._penalty(weight_FK)

    def smooth(self, weight_FK: Array, width: float) -> tuple[float, Array]:
        """The bound, below the value by half a width a hinge at most, and its gradient."""
        loss_N, slope_NC = self._smooth_losses(weight_FK, width)
        gradient_FK = self._gradient(slope_NC, weight_FK)
        self._distance = float(np.vdot(gradient_FK, gradient_FK)) / (2 * self.strength)
        return float(self._share_N @ loss_N) + self._penalty(weight_FK), gradient_FK

    def gap(self, weight_FK: Array, width: float) -> tuple[float, float]:
        """Two parts whose sum bounds value − optimum, with the slopes of the bound as the dual point.

        The first shrinks with the width, the second is ‖gradient of the bound‖² / (2λ).
        """
        return self.gap_of(weight_FK, self._smooth_losses(weight_FK, width)[1])

    def gap_of(self, weight_FK: Array, slope_NC: Tensor) -> tuple[float, float]:
        """Two parts whose sum bounds value − optimum, by duality with slopes of the losses.

        The first is the difference between the losses and their linear functions of these slopes, the second
        ‖Σ_i ω_i x_i slope_i + λ W‖² / (2λ).
        """
        # The linear function that touches Σ_j max(0, 1 ± s_j) from below is Σ_j abs(slope_j) at s = 0. Of the
        # other losses only the label's slope is below 0, by as much as the rest is above.
        at_0_N = slope_NC.abs().sum(dim=1) / (1 if self._loss == "one_vs_rest" else 2)
        linear_N = (slope_NC * self._logits(weight_FK)).sum(dim=1) + at_0_N
        smoothing = self.value(weight_FK) - float(self._share_N @ linear_N) - self._penalty(weight_FK)
        gradient_FK = self._gradient(slope_NC, weight_FK)
        # A negative value is rounding.
        return max(smoothing, 0.0), float(np.vdot(gradient_FK, gradient_FK)) / (2 * self.strength)

    def minimize_smooth(
        self, weight_FK: Array, width: float, *, enough: float, max_iter: int
    ) -> tuple[Array, int]:
        """Weights whose bound is within ``enough`` of its minimum, and the steps of L-BFGS to them."""

        def smooth(flat: Array) -> tuple[float, Array]:
            bound, gradient_FK = self.smooth(
                self.change_of_variables.weights(flat.reshape(self._shape)), width
            )
            return bound, self.change_of_variables.gradient(gradient_FK).ravel()

        def stop(_: Any) -> None:
            if self._distance <= enough:
                raise StopIteration

        found = minimize(
            smooth,
            self.change_of_variables.variables(weight_FK).ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=stop,
            options={"maxiter": max_iter, "maxfun": 10**9, "gtol": 0.0, "ftol": 0.0},
        )
        weight_FK = self.change_of_variables.weights(found.x.reshape(self._shape))
        return self._polished(weight_FK, width), int(found.nit)

    def _polished(self, weight_FK: Array, width: float) -> Array:
        """The minimum of the bound to the last digits, by Newton steps; small problems only."""
        # What L-BFGS finds depends on the order of rows in its last digits.
        if weight_FK.size * len(self._labels_N) > _CHEAP:
            return weight_FK
        gradient_FK = self.smooth(weight_FK, width)[1]
        for _ in range(_NEWTON_STEPS):
            if np.abs(gradient_FK).max() <= _LARGEST_GRADIENT:
                break
            step_FK = self._newton_step(weight_FK, gradient_FK, width)
            slope = -float(np.vdot(gradient_FK, step_FK))
            for _ in range(_HALVINGS):
                gradient_FK = self.smooth(weight_FK + step_FK, width)[1]
                if np.vdot(gradient_FK, step_FK) <= slope / 2:
                    break
                step_FK, slope = step_FK / 2, slope / 2
            weight_FK = weight_FK + step_FK
        return weight_FK

    def _newton_step(self, weight_FK: Array, gradient_FK: Array, width: float) -> Array:
        logits_NC = self._logits(weight_FK).requires_grad_()
        loss = self._share_N @ self._smooth_loss(logits_NC, width)
        (slope_NC,) = torch.autograd.grad(loss, logits_NC, create_graph=True)

        def hessian(flat: Array) -> Array:
            direction_FK = flat.reshape(self._shape)
            (product_NC,) = torch.autograd.grad(
                slope_NC, logits_NC, self._logits(direction_FK), retain_graph=True
            )
            return (self._pull_back(product_NC) + self.strength * direction_FK).ravel()

        size = gradient_FK.size
        operator = LinearOperator((size, size), matvec=hessian, dtype=np.float64)
        step: Array = cg(operator, -gradient_FK.ravel(), rtol=1e-10, maxiter=2 * size)[0]
        return step.reshape(self._shape)

    def _smooth_losses(self, weight_FK: Array, width: float) -> tuple[Tensor, Tensor]:
        logits_NC = self._logits(weight_FK).requires_grad_()
        loss_N = self._smooth_loss(logits_NC, width)
        (slope_NC,) = torch.autograd.grad(loss_N.sum(), logits_NC)
        return loss_N.detach(), slope_NC

    def _gradient(self, slope_NC: Tensor, weight_FK: Array) -> Array:
        return self._pull_back(slope_NC * self._share_N[:, None]) + self.strength * weight_FK

    def _pull_back(self, slope_NC: Tensor) -> Array:
        slope_KN = np.ascontiguousarray(slope_NC.detach().numpy().T[-self._shape[1] :])
        bias_GK = slope_KN.sum(axis=1)[None].repeat(self.num_biases, axis=0)
        return np.concatenate([self._features.pull_back(slope_KN), bias_GK])

    def _logits(self, weight_FK: Array) -> Tensor:
        num_features = self._features.num_features
        logits_KN = self._features.logits(weight_FK[:num_features])
        logits_KN += weight_FK[num_features:].sum(axis=0)[:, None]
        if len(logits_KN) == 1:
            logits_KN = np.concatenate([np.zeros_like(logits_KN), logits_KN])
        return torch.from_numpy(logits_KN.T)

    def _penalty(self, weight_FK: Array) -> float:
        return self.strength / 2 * float(np.vdot(weight_FK, weight_FK))

    def _smooth_loss(self, logits_NC: Tensor, width: float) -> Tensor:
        if self._loss == "crammer_singer":
            # The hinge is a maximum over probabilities, and this loss the maximum less half their squares.
            lifted_NC = (logits_NC + 1 - self._answers_NK) / width
            return width * (sparsemax_loss(lifted_NC, self._labels_N) - 1 / 2)
        # A hinge with a parabola at its breakpoint is the difference of two squared hinges.
        inner_N, outer_N = (
            self._hinge(logits_NC, margin=margin, squared=True) for margin in (1 - width, 1.0)
        )
        return (outer_N - inner_N) / (2 * width)

    def _hinge(self, logits_NC: Tensor, **options: Any) -> Tensor:
        if self._loss == "one_vs_rest":
            return one_vs_rest_hinge(logits_NC, self._answers_NK, **options)
        hinge = crammer_singer if self._loss == "crammer_singer" else weston_watkins
        return hinge(logits_NC, self._labels_N, **options)
