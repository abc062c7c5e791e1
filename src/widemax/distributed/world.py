"""The processes that train together, and what they ask of one another.

Nothing is pickled on the way: tensors are sent as they are, texts as their bytes.
Shapes: R processes, N rows of one process.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from widemax.errors import PeerError, UsageError

WORK_S = 2.0
"""Processes with different work tell one another so often that they are there."""

T = TypeVar("T")


def world_size() -> int:
    """How many processes torchrun, or ``widemax train --workers``, has started together; 1 for one alone."""
    if distributed.is_initialized():
        return distributed.get_world_size()
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class World:
    """All processes of a training as one of them sees them; what one alone asks of itself costs nothing.

    Each method must be called by all of them, in the same order.

    Attributes:
        rank: which one this is, from 0.
        size: R, how many they are.

    Raises:
        PeerError: another one has ended, or does not answer within the time that :func:`joined` was given.

    Example:
        >>> World().sum(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        return self._reduced(tensor, "SUM")

    def max(self, tensor: Tensor) -> Tensor:
        """The largest of all processes, number by number and in place."""
        return self._reduced(tensor, "MAX")

    def any(self, *flags: bool) -> list[bool]:
        """For each of these, whether it holds in any process."""
        if self.size == 1:
            return list(flags)
        return self.max(torch.tensor(flags, dtype=torch.uint8)).bool().tolist()

    def _reduced(self, tensor: Tensor, operation: str) -> Tensor:
        if self.size > 1:
            with _answered():
                distributed.all_reduce(tensor, getattr(distributed.ReduceOp, operation))
        return tensor

    def stack(self, tensor: Tensor) -> Tensor:
        """[R, ...] the tensors of all processes, which have one shape."""
        if self.size == 1:
            return tensor[None]
        found = tensor.new_empty(self.size, *tensor.shape)
        with _answered():
            distributed.all_gather(list(found), tensor.contiguous())
        return found

    def counts(self, *numbers: int) -> list[list[int]]:
        """Some whole numbers of each process."""
        return self.stack(torch.tensor(numbers)).tolist()

    def gather(self, rows: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """The rows of all processes one after the other.

        Args:
            rows: [N, ...] own rows, or none.
            counts: [R] how many rows each has, where that is known.
        """
        if self.size == 1:
            return rows
        counts = [count for (count,) in self.counts(len(rows))] if counts is None else counts
        # Gloo takes equal numbers of rows alone.
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        found = self.stack(padded)
        return torch.cat([part[:count] for part, count in zip(found, counts, strict=True)])

    def scatter_sum(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Own rows of the sum over all processes, whose rows come one after the other; of :meth:`gather`."""
        if self.size == 1:
            return rows
        own = counts[self.rank]
        found = self.swap(rows, counts, [own] * self.size)
        return found.view(self.size, own, *rows.shape[1:]).sum(0)

    def swap(self, rows: Tensor, sent: Sequence[int], got: Sequence[int]) -> Tensor:
        """The rows that others send to this process.

        Args:
            rows: what it sends, in the order of the processes.
            sent: [R] how many of them go to each.
            got: [R] how many come from each, in their order.
        """
        if self.size == 1:
            return rows
        found = rows.new_empty(sum(got), *rows.shape[1:])
        with _answered():
            distributed.all_to_all_single(found, rows.contiguous(), list(got), list(sent))
        return found

    def tell(self, text: str = "") -> str:
        """What the first process says."""
        if self.size == 1:
            return text
        content = text.encode("utf-8")
        length = torch.tensor([len(content)])
        with _answered():
            distributed.broadcast(length, 0)
            letters = torch.tensor([*content] if self.is_first else [0] * int(length), dtype=torch.uint8)
            distributed.broadcast(letters, 0)
        return bytes(letters.tolist()).decode("utf-8")

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            self.sum(torch.zeros(1))

    def in_step(self, work: Iterable[T]) -> Iterator[T]:
        """Own work of any length, until all are done with theirs; meanwhile they hear of one another."""
        until = time.monotonic() + WORK_S
        for item in work:
            yield item
            if time.monotonic() > until:
                self.any(True)
                until = time.monotonic() + WORK_S
        while any(self.any(False)):
            pass

    def share(self, num_rows: int) -> range:
        """The rows of a batch that this process takes: consecutive ones, as many as any other or one more."""
        least, more = divmod(num_rows, self.size)
        start = self.rank * least + min(self.rank, more)
        return range(start, start + least + (self.rank < more))

    def asked(self, num_rows: int) -> slice:
        """The same, or the first row where there are too few for all, of which the answer does not count."""
        share = self.share(num_rows) or range(1)
        return slice(share.start, share.stop)


ALONE = World()
"""One process that trains by itself."""


@contextmanager
def joined(timeout_s: float) -> Iterator[World]:
    """The world of the processes that were started together, until the block ends.

    Where torch.distributed is initialized already, its processes are taken, and stay.

    Args:
        timeout_s: how long one waits for another.

    Raises:
        PeerError: the others do not come in time.
        UsageError: the processes are not told from one another, as torchrun does.
    """
    size = world_size()
    if size == 1:
        yield ALONE
        return
    if distributed.is_initialized():
        yield World(distributed.get_rank(), size)
        return
    if "RANK" not in os.environ:
        raise UsageError("WORLD_SIZE is set, but RANK is not. Start the processes by torchrun or --workers.")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _answered():
        distributed.init_process_group(
            backend,
            init_method=os.environ.get("WIDEMAX_RENDEZVOUS", "env://"),
            rank=int(os.environ["RANK"]),
            world_size=size,
            timeout=timedelta(seconds=timeout_s),
        )
    try:
        yield World(int(os.environ["RANK"]), size)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _answered() -> Iterator[None]:
    """Turns what a library says of a process that is gone into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError(
            "no answer from another process of this training: it has ended, or has not answered in time. "
            "The training goes on from its last checkpoint with `widemax resume RUN`."
        ) from error
