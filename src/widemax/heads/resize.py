"""Classes come and go: rows of parameters added and removed under an optimizer. Shapes: D hidden."""

import math
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from widemax.errors import ShapeError

NewRows = Literal["normal", "mean", "zeros"]


@runtime_checkable
class FollowsRows(Protocol):
    """An optimizer whose state can follow the rows of a parameter, as widemax's own."""

    def resize(self, parameter: Tensor, kept_rows: Tensor, num_new: int) -> None:
        """Keep the state of ``kept_rows``, in this order, and begin that of ``num_new`` rows after them."""


def new_weight_rows(weight: Tensor, num_new: int, init: NewRows | Tensor) -> Tensor:
    """[num_new, D] weights of new classes.

    Args:
        weight: [C, D] the weights there are.
        num_new: how many rows.
        init: "normal" as at the start of training (variance 1/D), the "mean" of all classes, "zeros", or the
            rows themselves.

    Raises:
        ShapeError: rows of another shape.

    Example:
        >>> new_weight_rows(torch.tensor([[1.0], [3.0]]), 1, "mean")
        tensor([[2.]])
    """
    dim = weight.shape[1]
    if isinstance(init, Tensor):
        if init.shape != (num_new, dim):
            raise ShapeError(
                f"init must be [{num_new}, {dim}], one row a new class; got {tuple(init.shape)}."
            )
        return init.to(weight)
    if init == "mean":
        return weight.mean(0).expand(num_new, dim)
    rows = weight.new_zeros(num_new, dim)
    return rows if init == "zeros" else nn.init.normal_(rows, std=1 / math.sqrt(dim))


def replace_rows(
    parameter: nn.Parameter, kept_rows: Tensor, new_rows: Tensor, optimizer: FollowsRows | None
) -> None:
    """Keep some rows of a parameter and add new ones after them; the parameter stays the same object."""
    parameter.grad = None
    parameter.data = torch.cat([parameter.data[kept_rows], new_rows])
    if optimizer is not None:
        optimizer.resize(parameter, kept_rows, len(new_rows))
