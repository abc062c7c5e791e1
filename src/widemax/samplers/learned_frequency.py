"""Classes as often as the last labels had them. Shapes: S sampled, P labels, W window, C classes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.samplers.base import Proposal, Query, samplers
from widemax.samplers.replacement import Duplicates, ReplacementSampler, uniform_float64


@samplers.register("learned_frequency")
class LearnedFrequency(ReplacementSampler):
    """Draws a class from all classes, or else from the last W labels; no class counts are needed.

    q(y) = u / C + (1 − u)·(times y stands among the last W labels) / (number of labels there), exactly, and
    1 / C before any label came. The labels of a batch count from the next draw on, so that a draw does not
    depend on its batch. A step costs O(S + P) time; the counts take 4 bytes a class.

    Use: for streams, where class counts are unknown or drift. Where the counts of the training data are known
    "frequency" needs no memory of labels, and can flatten them.

    Args:
        uniform_share: u, the probability that a draw is from all classes.
        window: W, how many labels are remembered; 8 bytes a label.

    Example:
        >>> sampler = LearnedFrequency(4, uniform_share=0.2)
        >>> generator = torch.Generator().manual_seed(0)
        >>> for _ in range(2):
        ...     candidates = sampler.draw(torch.tensor([3, 3, 3, 0]), 2, generator=generator)
        >>> sampler.probs(torch.arange(4)).numpy().round(4)
        array([0.25, 0.05, 0.05, 0.65])

    Source: Bengio, Senécal 2008, "Adaptive Importance Sampling to Accelerate Training of a Neural
    Probabilistic Language Model", whose proposal follows the data; here the last labels are the proposal.
    """

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        uniform_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1,
        window: Annotated[int, Field(ge=1, lt=2**31)] = 2**20,
        duplicates: Duplicates = "drop",
    ) -> None:
        super().__init__(num_classes, duplicates=duplicates)
        self.uniform_share = uniform_share
        self.window = window
        self._clear(torch.device("cpu"))

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        self._learn_waiting()
        waiting_P = self._waiting_P = labels.clone()
        ids_S, log_count = super().propose(labels, num_sampled, generator=generator, query=query)

        def log_expected_count(ids: Tensor) -> Tensor:
            # After it, q is another one.
            assert self._waiting_P is waiting_P, "expected counts are known until the next draw"
            return log_count(ids)

        return Proposal(ids_S, log_expected_count)

    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        self._move(generator.device)
        ids_S = torch.randint(self.num_classes, (num_sampled,), generator=generator, device=generator.device)
        if self._num_labels == 0:
            return ids_S
        from_all_S = uniform_float64(num_sampled, generator) < self.uniform_share
        age_S = torch.randint(self._num_labels, (num_sampled,), generator=generator, device=generator.device)
        return torch.where(from_all_S, ids_S, self._labels_W[self._places(age_S)])

    def probs(self, class_ids: Tensor) -> Tensor:
        self._move(class_ids.device)
        share = self.uniform_share if self._num_labels else 1.0
        seen = self._counts_C[class_ids].double() / max(self._num_labels, 1)
        return share / self.num_classes + (1 - share) * seen

    def state(self) -> dict[str, Tensor]:
        self._learn_waiting()
        order_W = torch.arange(self._num_labels, device=self._labels_W.device)
        return {"labels": self._labels_W[self._places(order_W)]}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._clear(state["labels"].device)
        self._learn(state["labels"])

    def _clear(self, device: torch.device) -> None:
        self._labels_W = torch.empty(self.window, dtype=torch.int64, device=device)
        self._counts_C = torch.zeros(self.num_classes, dtype=torch.int32, device=device)
        self._waiting_P = torch.empty(0, dtype=torch.int64, device=device)
        self._num_labels = 0
        self._oldest = 0

    def _move(self, device: torch.device) -> None:
        self._labels_W, self._counts_C = self._labels_W.to(device), self._counts_C.to(device)

    def _places(self, order: Tensor) -> Tensor:
        """Where the labels stand, counted from the oldest one."""
        return (self._oldest + order) % self.window

    def _learn_waiting(self) -> None:
        labels_P, self._waiting_P = self._waiting_P, self._waiting_P[:0]
        self._learn(labels_P)

    def _learn(self, labels_P: Tensor) -> None:
        """Put labels in the place of the oldest ones, and keep the counts in step."""
        labels_P = labels_P[-self.window :]
        self._move(labels_P.device)
        order_P = self._num_labels + torch.arange(len(labels_P), device=labels_P.device)
        places_P = self._places(order_P)
        num_free = self.window - self._num_labels
        leaving = self._labels_W[places_P[num_free:]]
        self._labels_W[places_P] = labels_P
        self._count(leaving, -1)
        self._count(labels_P, 1)
        self._oldest = (self._oldest + len(leaving)) % self.window
        self._num_labels += len(labels_P) - len(leaving)

    def _count(self, labels: Tensor, step: int) -> None:
        self._counts_C.index_add_(0, labels, torch.full_like(labels, step, dtype=torch.int32))
