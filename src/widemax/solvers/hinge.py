"""The optimum of a linear model's hinge loss with a penalty, through smooth bounds from below.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn.functional import one_hot

from widemax.losses import crammer_singer, one_vs_rest_hinge, sparsemax_loss, weston_watkins
from widemax.options import checked
from widemax.solvers.change_of_variables import ChangeOfVariables
from widemax.solvers.products import Array, Products, products
from widemax.solvers.solution import Solution

HingeLoss = Literal["crammer_singer", "weston_watkins", "one_vs_rest"]

_SHRINK = 4
_CHEAP = 1_000_000
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
    """The optimum of Σ_i ω_i ℓ_i + λ/2 ‖W‖², with biases penalized, by L-BFGS on bounds of shrinking width.

    ω_i is the share of row i in all weights, λ = 1 / (C Σ_i w_i).

    Args:
        features: [N, D], dense or CSR.
        labels: class ids, [N].
        row_weight: w, [N] in float64; its sum is positive.
        start: weights to start from, [F, K] in float64.
        loss: ℓ, with margin 1; with one vector of weights all are the hinge of two classes.
        C: inverse strength of the penalty, above 0.
        tol: relative duality gap to stop at.
        max_iter: at most so many steps.

    Returns:
        The weights of the smallest gap, in float64.
    """
    problem = HingeObjective(
        products(features, np.float64), torch.from_numpy(labels), row_weight, loss, C, start.shape
    )
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
        self.change_of_variables = ChangeOfVariables(features, self._share_N.numpy(), self.strength, shape)

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
        """Two parts whose sum bounds value − optimum, by duality; the first shrinks with the width.

        The slopes α of the bound are a dual point: the first part is the difference between the losses and
        their linear functions of slope α, the second ‖gradient of the bound‖² / (2λ).
        """
        loss_N, slope_NC = self._smooth_losses(weight_FK, width)
        if self._loss == "crammer_singer":
            dual_NC = slope_NC + self._answers_NK
        elif self._loss == "weston_watkins":
            dual_NC = slope_NC * (1 - self._answers_NK)
        else:
            dual_NC = slope_NC
        # Up to a constant the bound is the largest α·s − width/2 ‖α‖², and the loss is the largest α·s.
        linear_N = loss_N + width / 2 * dual_NC.square().sum(dim=1)
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
        num_biases = self._shape[0] - self._features.num_features
        bias_GK = slope_KN.sum(axis=1)[None].repeat(num_biases, axis=0)
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
