"""The labels of former batches as candidates. Shapes: S sampled, P labels, C classes."""

import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.samplers.base import Proposal, Query, Sampler, needed_counts, samplers
from widemax.samplers.in_batch import ClassFrequencies, LabelDuplicates, label_probs, log_label_count
from widemax.samplers.replacement import draw_places


@samplers.register("cross_batch_queue")
class CrossBatchQueue(Sampler):
    """The candidates are the last n = ``num_sampled`` labels of former batches, never of this one.

    Every label is a draw from p(y) = count(y) / Σ count, so there may be far more candidates than a batch has
    labels:

    ============  ==========================
    duplicates    expected count of y
    ============  ==========================
    ``"keep"``    n·p(y)
    ``"drop"``    1 − (1 − p(y))^n
    ============  ==========================

    The queue starts full of draws from p, so this holds from the first step on. It is exact if labels are
    independent draws from p, and off by no more than one part in the number of rows if epochs go through
    shuffled rows; it does not hold for rows in an order of their own.

    Use: where batches hold too few labels for "in_batch", and candidates should still come as often as labels
    do. Rows must be shuffled. "frequency" with ``alpha`` = 1 has nearly the same distribution and remembers
    nothing.

    Args:
        num_classes: ``Classes`` with counts, where a class without a row counts as one.
        duplicates: whether a class that stands in the queue several times is one candidate or several.

    Raises:
        ConfigError: classes without counts.

    Example:
        >>> sampler = CrossBatchQueue(Classes(9, torch.eye(9)[8]), duplicates="keep")
        >>> generator = torch.Generator()
        >>> sampler.draw(torch.tensor([3, 5]), 3, generator=generator).class_ids
        tensor([8, 8, 8])
        >>> sampler.draw(torch.tensor([4]), 3, generator=generator).class_ids
        tensor([3, 5, 8])

    Source: Wang et al. 2021, "Cross-Batch Negative Sampling for Training Two-Tower Recommenders", which
    stores vectors, where this keeps labels and so has no stale ones.
    """

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        duplicates: LabelDuplicates = "drop",
    ) -> None:
        super().__init__(num_classes)
        counts_C = needed_counts(num_classes, "cross_batch_queue")
        self.duplicates = duplicates
        self.frequencies = ClassFrequencies(counts_C)
        self._cumulative_C = counts_C.cumsum(0, dtype=torch.float64)
        self._queue_S = torch.empty(0, dtype=torch.int64)

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        queue_S = self._queue_S.to(generator.device)
        missing = max(num_sampled - len(queue_S), 0)
        queue_S = torch.cat([self._draw_labels(missing, generator), queue_S])[-num_sampled:]
        self._queue_S = torch.cat([queue_S, labels])[-num_sampled:]
        return Proposal(
            torch.unique(queue_S) if self.duplicates == "drop" else queue_S,
            lambda ids: log_label_count(label_probs(self.frequencies, ids), num_sampled, self.duplicates),
        )

    def state(self) -> dict[str, Tensor]:
        return {"queue": self._queue_S.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._queue_S = state["queue"].clone()

    def _draw_labels(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws from p itself: a class without a row is not among them."""
        self._cumulative_C = self._cumulative_C.to(generator.device)
        return draw_places(self._cumulative_C, count, generator)
