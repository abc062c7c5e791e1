"""Classes come and go: rows of parameters added and removed under an optimizer."""

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

NewRows = Literal["normal", "mean", "zeros"]


@runtime_checkable
class FollowsRows(Protocol):
    """An optimizer whose state can follow the rows of a parameter, as widemax's own."""

    def resize(self, parameter: Tensor, kept_rows: Tensor, num_new: int) -> None:
        """Keep the state of ``kept_rows``, in this order, and begin that of ``num_new`` rows after them."""


def replace_rows(
    parameter: nn.Parameter, kept_rows: Tensor, new_rows: Tensor, optimizer: FollowsRows | None
) -> None:
    """Keep some rows of a parameter and add new ones after them; the parameter stays the same object."""
    parameter.grad = None
    parameter.data = torch.cat([parameter.data[kept_rows], new_rows])
    if optimizer is not None:
        optimizer.resize(parameter, kept_rows, len(new_rows))
