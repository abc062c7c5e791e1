"""A loss with arguments it takes. Shapes: B rows, C classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from widemax.losses import losses


@dataclass(frozen=True)
class LossSubject:
    """A loss, with arguments it takes."""

    loss_fn: Callable[..., Tensor]
    options: dict[str, Any]

    @property
    def several(self) -> bool:
        return bool(losses.traits(self.loss_fn).takes == "targets")

    @property
    def of_cosines(self) -> bool:
        return bool(losses.traits(self.loss_fn).of == "cosines")

    def __call__(self, logits_BC: Tensor, truth: Tensor) -> Tensor:
        return self.loss_fn(logits_BC, truth, **self.options)

    def logits(self, num_rows: int, num_classes: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (num_rows, num_classes)
        if self.of_cosines:
            return 1.8 * torch.rand(shape, dtype=torch.float64, generator=generator) - 0.9
        return 2 * torch.randn(shape, dtype=torch.float64, generator=generator)

    def truth(self, num_rows: int, num_classes: int) -> Tensor:
        """Class ids, or one right class a row and a second one in every other row."""
        rows_B = torch.arange(num_rows)
        ids_B = (3 * rows_B + 1) % max(num_classes, 1)
        if not self.several:
            return ids_B
        targets_BC = torch.zeros(num_rows, num_classes, dtype=torch.float64)
        targets_BC[rows_B, ids_B] = 1
        if num_classes > 2:
            targets_BC[rows_B[::2], (ids_B[::2] + 1) % num_classes] = 1
        return targets_BC

    def is_right(self, truth: Tensor, num_classes: int) -> Tensor:
        """[B, C] whether a class is right."""
        return truth > 0 if self.several else torch.nn.functional.one_hot(truth, num_classes) > 0

    def with_gradient(self, logits_BC: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """[B] losses and the gradient of their sum."""
        leaf_BC = logits_BC.detach().requires_grad_()
        loss_B = self(leaf_BC, truth)
        return loss_B.detach(), torch.autograd.grad(loss_B.sum(), leaf_BC)[0]
