"""Samplers that follow the model by an index of its class weights. Shapes: B rows, C classes, D hidden."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.errors import DataError
from widemax.options import AtLeast1
from widemax.samplers.base import Proposal, Query, Sampler, needed
from widemax.samplers.replacement import Duplicates, ReplacementSampler

Index: TypeAlias = dict[str, Tensor]


# Classes whose rows are in memory at once, in float64 at most.
CLASSES_AT_ONCE = 2**14


class IndexedSampler(Sampler):
    """Independent draws from q̄(y) = (1/B) Σ_b q(y | x_b), where q follows the weights of the last refresh.

    Candidates are shared by the batch: a draw is that of a row picked at random, so its distribution is the
    mean over rows. The index is built at the first draw and again after every ``refresh_every`` draws. In
    between the weights move on and the index falls behind, which costs variance, not exactness: expected
    counts are those of the index that was drawn from.

    Args:
        refresh_every: draws (training steps) after which the index is built anew.
        duplicates: what happens to a class drawn several times.
    """

    name: ClassVar[str]
    follows_model = True

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        refresh_every: AtLeast1 = 500,
        duplicates: Duplicates = "drop",
    ) -> None:
        super().__init__(num_classes)
        self.refresh_every = refresh_every
        self.duplicates = duplicates
        self._index: Index = {}
        self._draws_served = 0

    @abstractmethod
    def build_index(self, query: Query, generator: torch.Generator) -> Index:
        """What is kept of the weights until the next refresh, on the generator's device."""

    @abstractmethod
    def of_batch(self, hidden_BD: Tensor, index: Index) -> ReplacementSampler:
        """q̄ of a batch; it keeps the tensors of this index, not those of a later one."""

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        query = needed(query, self.name)
        if not self._index or self._draws_served >= self.refresh_every:
            self._index, self._draws_served = self.build_index(query, generator), 0
        self._draws_served += 1
        self._index = {name: tensor.to(generator.device) for name, tensor in self._index.items()}
        hidden_BD = finite(query.hidden_BD, "hidden").to(generator.device, torch.float64)
        return self.of_batch(hidden_BD, self._index).propose(labels, num_sampled, generator=generator)

    def state(self) -> dict[str, Tensor]:
        return {"draws_served": torch.tensor(self._draws_served), **self._index} if self._index else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._draws_served = int(state.get("draws_served", 0))
        self._index = {name: tensor for name, tensor in state.items() if name != "draws_served"}


def class_rows(query: Query, ids_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Float32 weight rows [n, D] and float64 biases [n], some classes at a time, on the device of the ids."""
    for ids_n in torch.split(ids_N, CLASSES_AT_ONCE):
        rows_nD, bias_n = query.rows(ids_n)
        rows_nD, bias_n = finite(rows_nD, "weight"), finite(bias_n, "bias")
        yield rows_nD.to(ids_n.device, torch.float32), bias_n.to(ids_n.device, torch.float64)


def finite(values: Tensor, what: str) -> Tensor:
    """The values without their gradient."""
    if values.is_cpu and not values.isfinite().all():  # a look at them would stall an accelerator
        raise DataError(
            f"{what} must be finite for a sampler that follows the model; it holds NaN or infinity. "
            "Training has diverged: lower the learning rate, or clip gradients."
        )
    return values.detach()
