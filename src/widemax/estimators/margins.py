"""Hinge losses of a linear model with a penalty, and smooth bounds that come as near as wanted.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn.functional import one_hot

from widemax.estimators.products import Array, Products
from widemax.losses import crammer_singer, one_vs_rest_hinge, sparsemax_loss, weston_watkins

MarginLoss = Literal["crammer_singer", "weston_watkins", "one_vs_rest"]

_CHEAP = 1_000_000
_NEWTON_STEPS, _HALVINGS, _SETTLED = 50, 20, 1e-13
_MOST_ENTRIES = 20_000_000


class Margins:
    """The objective, and its smooth bound from below."""

    def __init__(
        self,
        features: Products,
        labels_N: Tensor,
        weight_N: Array,
        loss: MarginLoss,
        C: float,
        shape: tuple[int, int],
    ) -> None:
        self.strength = float(1 / (C * weight_N.sum()))
        self._features = features
        self._labels_N = labels_N
        self._share_N = torch.from_numpy(weight_N / weight_N.sum())
        # With two classes all are one hinge, and this one is the cheapest.
        self._loss = "weston_watkins" if shape[1] == 1 else loss
        self._shape = shape
        self._answers_NK = one_hot(labels_N, max(shape[1], 2))
        self._valley = Valley(features, self._share_N.numpy(), self.strength, shape)

    def value(self, weight_FK: Array) -> float:
        logits_NC = self._logits(weight_FK)
        if self._loss == "crammer_singer":
            loss_N = crammer_singer(logits_NC, self._labels_N)
        elif self._loss == "weston_watkins":
            loss_N = weston_watkins(logits_NC, self._labels_N)
        else:
            loss_N = one_vs_rest_hinge(logits_NC, self._answers_NK)
        return float(self._share_N @ loss_N) + self._penalty(weight_FK)

    def smooth(self, weight_FK: Array, width: float) -> tuple[float, Array]:
        """The bound, below the value by half a width a hinge at most, and its gradient."""
        loss_N, slope_NC = self._rounded_with_slope(weight_FK, width)
        gradient_FK = self._gradient(slope_NC, weight_FK)
        self._distance = float(np.vdot(gradient_FK, gradient_FK)) / (2 * self.strength)
        return float(self._share_N @ loss_N) + self._penalty(weight_FK), gradient_FK

    def gap(self, weight_FK: Array, width: float) -> tuple[float, float]:
        """Two parts whose sum bounds value − optimum, by duality; the first shrinks with the width.

        The slopes α of the bound are a dual point, at which the loss is at least linear: the first part is
        what the losses lie above that, the second ‖gradient of the bound‖² / (2λ).
        """
        loss_N, slope_NC = self._rounded_with_slope(weight_FK, width)
        if self._loss == "crammer_singer":
            dual_NC = slope_NC + self._answers_NK
        elif self._loss == "weston_watkins":
            dual_NC = slope_NC * (1 - self._answers_NK)
        else:
            dual_NC = slope_NC
        # Up to a constant the bound is the largest α·s − width/2 ‖α‖², and the loss is the largest α·s.
        linear_N = loss_N + width / 2 * dual_NC.square().sum(dim=1)
        kinks = self.value(weight_FK) - float(self._share_N @ linear_N) - self._penalty(weight_FK)
        gradient_FK = self._gradient(slope_NC, weight_FK)
        # Below 0 is rounding.
        return max(kinks, 0.0), float(np.vdot(gradient_FK, gradient_FK)) / (2 * self.strength)

    def descend(self, weight_FK: Array, width: float, *, enough: float, max_iter: int) -> tuple[Array, int]:
        """Weights whose bound is within ``enough`` of its least, and the steps of L-BFGS to them."""

        def smooth(flat: Array) -> tuple[float, Array]:
            bound, gradient_FK = self.smooth(self._valley.weights(flat.reshape(self._shape)), width)
            return bound, self._valley.slopes(gradient_FK).ravel()

        found = minimize(
            smooth,
            self._valley.places(weight_FK).ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=partial(self._stop_within, enough),
            options={"maxiter": max_iter, "maxfun": 10**9, "gtol": 0.0, "ftol": 0.0},
        )
        weight_FK = self._valley.weights(found.x.reshape(self._shape))
        return self.settled(weight_FK, width), int(found.nit)

    def settled(self, weight_FK: Array, width: float) -> Array:
        """The least of the bound to the last digits, by Newton steps from near it; cheap problems alone.

        L-BFGS leaves digits that depend on the order of rows.
        """
        if weight_FK.size * len(self._labels_N) > _CHEAP:
            return weight_FK
        gradient_FK = self.smooth(weight_FK, width)[1]
        for _ in range(_NEWTON_STEPS):
            if np.abs(gradient_FK).max() <= _SETTLED:
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
        loss = self._share_N @ self._rounded(logits_NC, width)
        (slope_NC,) = torch.autograd.grad(loss, logits_NC, create_graph=True)

        def hessian(flat: Array) -> Array:
            along_FK = flat.reshape(self._shape)
            (bend_NC,) = torch.autograd.grad(slope_NC, logits_NC, self._logits(along_FK), retain_graph=True)
            return (self._pull_back(bend_NC) + self.strength * along_FK).ravel()

        size = gradient_FK.size
        operator = LinearOperator((size, size), matvec=hessian, dtype=np.float64)
        step: Array = cg(operator, -gradient_FK.ravel(), rtol=1e-10, maxiter=2 * size)[0]
        return step.reshape(self._shape)

    def _rounded_with_slope(self, weight_FK: Array, width: float) -> tuple[Tensor, Tensor]:
        logits_NC = self._logits(weight_FK).requires_grad_()
        loss_N = self._rounded(logits_NC, width)
        (slope_NC,) = torch.autograd.grad(loss_N.sum(), logits_NC)
        return loss_N.detach(), slope_NC

    def _gradient(self, slope_NC: Tensor, weight_FK: Array) -> Array:
        return self._pull_back(slope_NC * self._share_N[:, None]) + self.strength * weight_FK

    def _pull_back(self, slope_NC: Tensor) -> Array:
        slope_KN = np.ascontiguousarray(slope_NC.detach().numpy().T[-self._shape[1] :])
        num_biases = self._shape[0] - self._features.num_features
        bias_GK = slope_KN.sum(axis=1)[None].repeat(num_biases, axis=0)
        return np.concatenate([self._features.pull_back(slope_KN), bias_GK])

    def _stop_within(self, distance: float, _: Any) -> None:
        """End the steps where the bound is so near to its least."""
        if self._distance <= distance:
            raise StopIteration

    def _logits(self, weight_FK: Array) -> Tensor:
        num_features = self._features.num_features
        logits_KN = self._features.logits(weight_FK[:num_features])
        logits_KN += weight_FK[num_features:].sum(axis=0)[:, None]
        if len(logits_KN) == 1:
            logits_KN = np.concatenate([np.zeros_like(logits_KN), logits_KN])
        return torch.from_numpy(logits_KN.T)

    def _penalty(self, weight_FK: Array) -> float:
        return self.strength / 2 * float(np.vdot(weight_FK, weight_FK))

    def _rounded(self, logits_NC: Tensor, width: float) -> Tensor:
        if self._loss == "crammer_singer":
            # The hinge is a maximum over probabilities, and this loss the maximum less their squares.
            lifted_NC = (logits_NC + 1 - self._answers_NK) / width
            return width * (sparsemax_loss(lifted_NC, self._labels_N) - 1 / 2)

        def squares(margin: float) -> Tensor:
            if self._loss == "weston_watkins":
                return weston_watkins(logits_NC, self._labels_N, margin=margin, squared=True)
            return one_vs_rest_hinge(logits_NC, self._answers_NK, margin=margin, squared=True)

        # A hinge with a parabola in place of its kink is the difference of two squared hinges.
        return (squares(1) - squares(1 - width)) / (2 * width)


class Valley:
    """Coordinates of the weights in which the valley of the bound is nearly round.

    A row bends the bound near the kinks of a vector or so of the K, so that its second derivative is about
    H = Σ_i ω_i x_i x_iᵀ / K + λ for each vector. With H = R L Lᵀ R and R diagonal the places are Lᵀ R W. For
    very many features, or more than rows, L is 1.
    """

    def __init__(self, features: Products, share_N: Array, strength: float, shape: tuple[int, int]) -> None:
        dim, num_vectors = shape
        num_biases = dim - features.num_features
        square_F1 = np.concatenate([features.squares(share_N[None]), np.ones((num_biases, 1))])
        self._root_F1 = np.sqrt(square_F1 / num_vectors + strength)
        ids_M = np.flatnonzero(share_N)
        self._factor_FF: Array | None = None
        if dim > len(ids_M) or dim**2 > _MOST_ENTRIES:
            return
        ids_M = ids_M[np.linspace(0, len(ids_M) - 1, min(len(ids_M), 3 * dim + 256)).astype(np.int64)]
        rows_MF = np.concatenate(
            [features.rows(ids_M, slice(None)), np.ones((len(ids_M), num_biases))], axis=1
        )
        rows_MF *= np.sqrt(share_N[ids_M] / share_N[ids_M].sum() / num_vectors)[:, None] / self._root_F1.T
        square_FF = rows_MF.T @ rows_MF
        # All rows would give a diagonal of 1, which a rare feature may lack here; rounding takes from it too.
        np.fill_diagonal(square_FF, np.maximum(square_FF.diagonal(), 1) + dim * np.finfo(float).eps)
        self._factor_FF = np.linalg.cholesky(square_FF)

    def places(self, weight_FK: Array) -> Array:
        """Weights in these coordinates."""
        scaled_FK = weight_FK * self._root_F1
        return scaled_FK if self._factor_FF is None else self._factor_FF.T @ scaled_FK

    def weights(self, place_FK: Array) -> Array:
        """The weights of a place."""
        return self._solved(place_FK, trans=1) / self._root_F1

    def slopes(self, gradient_FK: Array) -> Array:
        """The gradient by these coordinates, of that by the weights."""
        return self._solved(gradient_FK / self._root_F1, trans=0)

    def _solved(self, right_FK: Array, *, trans: int) -> Array:
        if self._factor_FF is None:
            return right_FK
        solved_FK: Array = solve_triangular(
            self._factor_FF, right_FK, lower=True, trans=trans, check_finite=False
        )
        return solved_FK
