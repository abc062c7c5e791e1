"""Rows of all processes in one, and sums over them, with their gradients.

Every process computes the same loss, each of its part of the classes. So the gradient of what they share is
already there; that of own rows is the sum of what every part of the classes has to say of them.
Shapes: R processes, N own rows, B rows of all, D hidden, P labels.
"""

import operator
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from widemax.distributed.world import World
from widemax.kernels import Pairs


class Messages:
    """Tensors of all processes, which each sends in one message of a length common to all.

    Messages have room for the longest one so far. They begin with the numbers of rows, from which all see
    where one did not fit, and then all send again.

    Args:
        world: the processes.

    Example:
        >>> Messages(World())(torch.tensor([5, 7]), torch.zeros(0, 3))
        [[tensor([5, 7]), tensor([], size=(0, 3))]]
    """

    def __init__(self, world: World) -> None:
        self.world, self._room = world, 0

    def __call__(self, *tensors: Tensor) -> list[list[Tensor]]:
        """[R] the tensors of each process, of any number of rows."""
        if self.world.size == 1:
            return [list(tensors)]
        lengths = torch.tensor([len(tensor) for tensor in tensors], device=tensors[0].device)
        content = torch.cat([tensor.flatten().view(torch.uint8) for tensor in (lengths, *tensors)])
        widths = [tensor.new_empty(tensor.shape[1:]).nbytes for tensor in tensors]
        self._room = max(self._room, lengths.nbytes)
        while True:
            message = content.new_zeros(self._room)
            message[: len(content)] = content[: self._room]
            messages = self.world.stack(message)
            found = messages[:, : lengths.nbytes].contiguous().view(lengths.dtype).tolist()
            sizes_R = [list(map(operator.mul, numbers, widths)) for numbers in found]
            longest = lengths.nbytes + max(map(sum, sizes_R))
            if longest <= self._room:
                break
            self._room = -(-longest // lengths.itemsize) * lengths.itemsize
        received = []
        for message, sizes in zip(messages, sizes_R, strict=True):
            parts = torch.split(message[lengths.nbytes :][: sum(sizes)], sizes)
            received.append(
                [
                    part.clone().view(tensor.dtype).view(-1, *tensor.shape[1:])
                    for part, tensor in zip(parts, tensors, strict=True)
                ]
            )
        return received

    def joined(self, *tensors: Tensor) -> list[Tensor]:
        """The same, the rows of all processes one after the other."""
        return [torch.cat(parts) for parts in zip(*self(*tensors), strict=True)]

    def joined_answers(self, num_rows: int, *tensors: Tensor) -> list[Tensor]:
        """:meth:`joined` of what each answers about the rows that it is :meth:`~World.asked` of so many."""
        counted = slice(None if self.world.share(num_rows) else 0)
        return self.joined(*(tensor[counted] for tensor in tensors))


class Exchange:
    """Hidden vectors and labels of all processes.

    Example:
        >>> _, labels, counts = Exchange(World())(torch.zeros(2, 3), Pairs.of(torch.tensor([5, 7])))
        >>> labels.ids_P, counts
        (tensor([5, 7]), [2])
    """

    def __init__(self, world: World) -> None:
        self.world, self._messages = world, Messages(world)

    def __call__(self, hidden: Tensor, labels: Pairs) -> tuple[Tensor, Pairs, list[int]]:
        """[B, D] hidden vectors, whose gradients are summed over all processes; labels; rows of each."""
        if self.world.size == 1:
            return hidden, labels, [len(hidden)]
        rows_RP, ids_RP, hidden_RN = zip(*self._messages(*labels, hidden.detach()), strict=True)
        counts = [len(hidden_ND) for hidden_ND in hidden_RN]
        firsts = accumulate(counts[:-1], initial=0)
        rows_P = torch.cat([rows_P + first for rows_P, first in zip(rows_RP, firsts, strict=True)])
        all_hidden: Tensor = _Gathered.apply(hidden, torch.cat(hidden_RN), self.world, counts)  # type: ignore[no-untyped-call]  # torch has no type for apply
        return all_hidden, Pairs(rows_P, torch.cat(ids_RP)), counts


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _: Tensor, rows_B: Tensor, world: World, counts: Sequence[int]) -> Tensor:
        ctx.world, ctx.counts = world, counts
        return rows_B

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.world.scatter_sum(grad_B, ctx.counts), None, None, None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, world: World) -> Tensor:
        return world.sum(part.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def summed(part: Tensor, world: World) -> Tensor:
    """The sum over all processes of their parts, of which all go on to compute the same."""
    found: Tensor = _Summed.apply(part, world)  # type: ignore[no-untyped-call]  # torch has no type for apply
    return found
