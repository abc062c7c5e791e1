"""What a sampler promises, and the registry of samplers. Shapes: S sampled, P labels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from widemax.registry import Registry


@dataclass(frozen=True)
class Candidates:
    """One draw, shared by all rows of a batch.

    Attributes:
        ids_S: int64 class ids in ascending order; a class that counts twice stands twice.
        log_expected_count_S: float64, log E[times this id stands in a draw], exact for what the sampler does.
        log_expected_count_labels_B: the same for each label, drawn or not.
    """

    ids_S: Tensor
    log_expected_count_S: Tensor
    log_expected_count_labels_B: Tensor

    def to(self, device: torch.device) -> "Candidates":
        """The same draw on another device."""
        return Candidates(
            self.ids_S.to(device),
            self.log_expected_count_S.to(device),
            self.log_expected_count_labels_B.to(device),
        )


class Sampler(ABC):
    """A proposal distribution over classes: one draw and one statement of what was drawn.

    Args:
        num_classes: candidates come from [0, num_classes).
        class_counts: [C] how often each class occurs in the training data; needed by some members.
    """

    def __init__(self, num_classes: int, class_counts: Tensor | None = None) -> None:
        self.num_classes = num_classes

    @abstractmethod
    def draw(self, labels: Tensor, num_sampled: int, *, generator: torch.Generator) -> Candidates:
        """Candidates for a batch.

        Args:
            labels: [P] the class ids of the batch's labels, on the CPU.
            num_sampled: the number of draws.
            generator: the source of randomness.
        """

    @abstractmethod
    def log_expected_count(self, class_ids: Tensor, num_sampled: int) -> Tensor:
        """float64 log E[times each class stands in a draw of ``num_sampled``], shaped like ``class_ids``."""


samplers: Registry[type[Sampler]] = Registry("sampler", "widemax.samplers")
