"""Which process holds the weights of which class, or the rows of a table. Shapes: N ids."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Ids = TypeVar("Ids", Tensor, np.ndarray)


@dataclass(frozen=True)
class Placement:
    """Classes dealt out one by one: class i is row i div R of shard i mod R, of R shards.

    No table is needed, ids ascend within a shard, so that equal logits are ordered by row as by id, and a
    further class moves no other. Ids sorted by frequency, as those of a vocabulary are, spread evenly: a
    shard is asked for about as many labels and candidates as any other.

    Args:
        num_classes: C, of all shards.
        num_shards: R.
        shard: which one this is, from 0.

    Example:
        >>> Placement(5, 2, 1).ids()
        tensor([1, 3])
    """

    num_classes: int
    num_shards: int = 1
    shard: int = 0

    def __len__(self) -> int:
        """How many classes the shard holds; none, where there are fewer classes than shards."""
        return len(range(self.shard, self.num_classes, self.num_shards))

    @property
    def largest(self) -> int:
        """How many classes the first shard holds, the most of all."""
        return -(-self.num_classes // self.num_shards)

    def ids(self) -> Tensor:
        """The ids of the shard's rows."""
        return self.class_ids(torch.arange(len(self)))

    def holds(self, ids: Tensor) -> Tensor:
        """Which of these classes the shard holds."""
        return ids % self.num_shards == self.shard

    def rows(self, ids: Ids) -> Ids:
        """The rows of classes that the shard holds; of others the row where they would stand among its own.

        Example:
            >>> Placement(10, 2, 1).rows(torch.tensor([3, 4]))  # class 3 is row 1; row 2 is class 5
            tensor([1, 2])
        """
        return (ids - self.shard + self.num_shards - 1) // self.num_shards

    def class_ids(self, rows: Tensor) -> Tensor:
        """The ids of rows of the shard."""
        return rows * self.num_shards + self.shard
