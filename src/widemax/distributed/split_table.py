"""A table of an encoder whose rows lie in several processes.

Shapes: R processes, F rows of the table, D hidden, U distinct ids of own rows of a batch, P ids, N asked for.
"""

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn

from widemax.distributed.exchange import Messages
from widemax.distributed.sharded_head import ShardedHead
from widemax.distributed.world import World
from widemax.encoders import Encoder, RaggedTensor, TableRows, bag_sum
from widemax.encoders.placement import Placement


@final
class SplitTable(TableRows):
    """The rows of a table of which each process holds some: row f lies in process f mod R.

    Every process tells the others which rows its part of a batch reads, gets them from those that hold them,
    and sends their gradients back: 2 · U · D numbers, and as many for others.

    Args:
        world: the processes.
        whole_numel: a table of at most so many numbers is a copy in each process.

    Example:
        >>> from widemax.distributed import World
        >>> rows = SplitTable(World(), whole_numel=0)
        >>> rows.zeros(5, 2).shape  # all of them, as there is one process
        torch.Size([5, 2])
    """

    def __init__(self, world: World, *, whole_numel: int) -> None:
        self.world, self.whole_numel = world, whole_numel
        self.placement: Placement | None = None
        # Batches in training are small: they are not sent with the room that those in evaluation take.
        self._messages = {trains: Messages(world) for trains in (True, False)}

    def place(self, num_rows: int, dim: int) -> Placement:
        if num_rows * dim <= self.whole_numel:
            self.placement = None
            return Placement(num_rows)
        self.placement = Placement(num_rows, self.world.size, self.world.rank)
        return self.placement

    def bag_sum(self, weight: Tensor, ragged: RaggedTensor) -> Tensor:
        if self.placement is None:
            return bag_sum(weight, ragged)
        # By the process that holds them, and there by their row: the order in which they come.
        size, largest = self.world.size, self.placement.largest
        keys_P = ragged.ids % size * largest + ragged.ids // size
        keys_U, places_P = torch.unique(keys_P, return_inverse=True)
        (asked,) = zip(*self._messages[torch.is_grad_enabled()](keys_U), strict=True)
        first = self.world.rank * largest
        rows_RN = [keys[(first <= keys) & (keys < first + largest)] - first for keys in asked]
        got = torch.bincount(keys_U // largest, minlength=size).tolist()
        rows_UD: Tensor = _Pulled.apply(weight, torch.cat(rows_RN), self.world, list(map(len, rows_RN)), got)  # type: ignore[no-untyped-call]  # torch has no type for apply
        return bag_sum(rows_UD, ragged._replace(ids=places_P))


class _Pulled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, rows_N: Tensor, world: World, sent: list[int], got: list[int]
    ) -> Tensor:
        ctx.shape, ctx.rows_N, ctx.world, ctx.sent, ctx.got = weight.shape, rows_N, world, sent, got
        return world.swap(weight[rows_N], sent, got)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_UD: Tensor) -> tuple[Tensor, None, None, None, None]:
        # Each of the rows was read, so none is left out of the sparse gradient.
        grad_ND = ctx.world.swap(grad_UD._values(), ctx.got, ctx.sent)
        rows_N = ctx.rows_N[None]
        grad = torch.sparse_coo_tensor(rows_N, grad_ND, ctx.shape, check_invariants=False)
        return grad, None, None, None, None


def tables(encoder: nn.Module) -> Iterator[tuple[str, Encoder, nn.Parameter]]:
    """The tables of an encoder that can be split: their names, and what of the encoder reads them."""
    for name, part in encoder.named_modules():
        if isinstance(part, Encoder) and part.table_name:
            yield f"{name}.{part.table_name}".lstrip("."), part, part.get_parameter(part.table_name)


def placed(encoder: nn.Module, head: nn.Module | None = None) -> dict[nn.Parameter, Placement]:
    """The parameters of which this process holds some rows, and which these are."""
    found = {}
    for _, part, weight in tables(encoder):
        if isinstance(part.rows, SplitTable) and part.rows.placement is not None:
            found[weight] = part.rows.placement
    if isinstance(head, ShardedHead):
        found |= dict.fromkeys(head.parameters(), head.placement)
    return found
