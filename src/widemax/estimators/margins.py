"""Hinge losses of a linear model with a penalty, and smooth bounds that come as near as wanted.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn.functional import one_hot

from widemax.estimators.products import Array, Products
from widemax.losses import crammer_singer, one_vs_rest_hinge, sparsemax_loss, weston_watkins

MarginLoss = Literal["crammer_singer", "weston_watkins", "one_vs_rest"]

_CHEAP = 1_000_000
_NEWTON_STEPS, _HALVINGS, _SETTLED = 50, 20, 1e-13


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

    def value(self, weight_FK: Array) -> float:
        logits_NC = self._logits(weight_FK)
        if self._loss == "crammer_singer":
            loss_N = crammer_singer(logits_NC, self._labels_N)
        elif self._loss == "weston_watkins":
            loss_N = weston_watkins(logits_NC, self._labels_N)
        else:
            loss_N = one_vs_rest_hinge(logits_NC, self._answers_NK)
        return float(self._share_N @ loss_N) + self._penalty(weight_FK)

    def smooth(self, flat: Array, width: float) -> tuple[float, Array]:
        """The bound, below the value by half a width a hinge at most, and its gradient."""
        weight_FK = flat.reshape(self._shape)
        logits_NC = self._logits(weight_FK).requires_grad_()
        loss = self._share_N @ self._rounded(logits_NC, width)
        (slope_NC,) = torch.autograd.grad(loss, logits_NC)
        gradient_FK = self._pull_back(slope_NC) + self.strength * weight_FK
        self._distance = float(np.vdot(gradient_FK, gradient_FK)) / (2 * self.strength)
        return float(loss.detach()) + self._penalty(weight_FK), gradient_FK.ravel()

    def settled(self, weight_FK: Array, width: float) -> Array:
        """The least of the bound to the last digits, by Newton steps from near it; cheap problems alone.

        L-BFGS leaves digits that depend on the order of rows.
        """
        if weight_FK.size * len(self._labels_N) > _CHEAP:
            return weight_FK
        gradient = self.smooth(weight_FK.ravel(), width)[1]
        for _ in range(_NEWTON_STEPS):
            if np.abs(gradient).max() <= _SETTLED:
                break
            step_FK = self._newton_step(weight_FK, gradient, width)
            slope = -float(gradient @ step_FK.ravel())
            for _ in range(_HALVINGS):
                gradient = self.smooth((weight_FK + step_FK).ravel(), width)[1]
                if gradient @ step_FK.ravel() <= slope / 2:
                    break
                step_FK, slope = step_FK / 2, slope / 2
            weight_FK = weight_FK + step_FK
        return weight_FK

    def _newton_step(self, weight_FK: Array, gradient: Array, width: float) -> Array:
        logits_NC = self._logits(weight_FK).requires_grad_()
        loss = self._share_N @ self._rounded(logits_NC, width)
        (slope_NC,) = torch.autograd.grad(loss, logits_NC, create_graph=True)

        def hessian(flat: Array) -> Array:
            along_FK = flat.reshape(self._shape)
            (bend_NC,) = torch.autograd.grad(slope_NC, logits_NC, self._logits(along_FK), retain_graph=True)
            return (self._pull_back(bend_NC) + self.strength * along_FK).ravel()

        operator = LinearOperator((gradient.size, gradient.size), matvec=hessian, dtype=np.float64)
        step: Array = cg(operator, -gradient, rtol=1e-10, maxiter=2 * gradient.size)[0]
        return step.reshape(self._shape)

    def _pull_back(self, slope_NC: Tensor) -> Array:
        slope_KN = np.ascontiguousarray(slope_NC.detach().numpy().T[-self._shape[1] :])
        num_biases = self._shape[0] - self._features.num_features
        bias_GK = slope_KN.sum(axis=1)[None].repeat(num_biases, axis=0)
        return np.concatenate([self._features.pull_back(slope_KN), bias_GK])

    def stop_within(self, distance: float, _: Any) -> None:
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
