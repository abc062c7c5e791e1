"""The elastic net, its subgradients and its Fenchel conjugate. Shapes: D features, K vectors of weights."""

from dataclasses import dataclass

import numpy as np

from widemax.solvers.products import Array


@dataclass(frozen=True)
class Penalty:
    """h(W) = l2/2 ‖W‖² + l1 ‖W‖₁."""

    l1: float
    l2: float

    def value(self, weight_DK: Array) -> float:
        ridge = self.l2 / 2 * float(np.vdot(weight_DK, weight_DK))
        return ridge + self.l1 * float(np.abs(weight_DK).sum()) if self.l1 else ridge

    def subgradient(self, weight_DK: Array, gradient_DK: Array) -> Array:
        """The shortest subgradient of loss + h, from the gradient of loss + l2/2 ‖W‖²."""
        if not self.l1:
            return gradient_DK
        at_zero_DK = np.sign(gradient_DK) * np.maximum(np.abs(gradient_DK) - self.l1, 0)
        return np.where(weight_DK == 0, at_zero_DK, gradient_DK + self.l1 * np.sign(weight_DK))

    def proximal(self, weight_DK: Array, bound_D1: Array) -> Array:
        """argmin_V ½ Σ bound (V − W)² + h(V)."""
        shrunk_DK = np.sign(weight_DK) * np.maximum(np.abs(weight_DK) - self.l1 / bound_D1, 0)
        near_DK: Array = shrunk_DK / (1 + self.l2 / bound_D1)
        return near_DK

    def fenchel_gap(self, weight_DK: Array, slope_DK: Array) -> float:
        """h(W) + h*(−V) + ⟨W, V⟩ at the slope V; without l2, no entry of V may exceed l1."""
        gap_DK = self.l1 * np.abs(weight_DK) + weight_DK * slope_DK
        if self.l2:
            excess_DK = np.maximum(np.abs(slope_DK) - self.l1, 0)
            gap_DK += np.square(excess_DK) / (2 * self.l2) + self.l2 / 2 * np.square(weight_DK)
        return max(float(gap_DK.sum()), 0.0)
