"""The labels of the batch as candidates for one another. Shapes: P labels, C classes."""

import math
from typing import Literal

import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.options import AtLeast1
from widemax.samplers.base import Proposal, Query, Sampler, samplers
from widemax.samplers.count_min_sketch import CountMinSketch
from widemax.samplers.replacement import log_at_least_once

LabelDuplicates = Literal["drop", "keep"]


@samplers.register("in_batch")
class InBatch(Sampler):
    """The candidates are the labels of the batch themselves; ``num_sampled`` is ignored.

    Expected counts are those that a row sees. Its own label stands there in any case and is masked as a hit;
    the labels of the other P − 1 rows are independent draws from p(y) = count(y) / Σ count:

    ============  ====================================
    duplicates    expected count of y
    ============  ====================================
    ``"keep"``    (P − 1)·p(y)
    ``"drop"``    1 − (1 − p(y))^(P − 1)
    ============  ====================================

    P in place of P − 1 would count the row's own label, which was never a draw. With duplicates kept, the
    factor P − 1 is the same for all classes and cancels in the correction "conditional", but in no other.
    Exact for shuffled rows with one label each; a row with several labels sees fewer than P − 1 others, so
    there the counts are approximate.

    Without class counts, p is learned from the labels of the former batches and this one, in a sketch of
    fixed size.

    Use: for two towers, where class vectors are computed from features and those of the batch are there
    anyway. It needs large batches of shuffled rows. Where each class has a weight row take "frequency"; to
    meet rare classes too mix it with "uniform".

    Args:
        num_classes: labels lie in [0, num_classes); with the counts of ``Classes``, a class without a row
            counts as one.
        duplicates: whether a class that is the label of several rows stands there once or several times.
        sketch_width: cells in a row of the sketch, a power of two; 8 bytes a cell.
        sketch_depth: rows of the sketch.

    Raises:
        OptionError: an option out of its range.

    Example:
        >>> sampler = InBatch(Classes(3, torch.tensor([50, 25, 25])), duplicates="keep")
        >>> candidates = sampler.draw(torch.tensor([2, 0, 2]), 1, generator=torch.Generator())
        >>> candidates.class_ids, candidates.log_expected_count.exp().numpy().round(4)
        (tensor([0, 2, 2]), array([1. , 0.5, 0.5]))

    Source: Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
    which learns p from the stream as well.
    """

    uses_labels = True

    def __init__(
        self,
        num_classes: int | Classes,
        *,
        duplicates: LabelDuplicates = "drop",
        sketch_width: AtLeast1 = 2**18,
        sketch_depth: AtLeast1 = 4,
    ) -> None:
        super().__init__(num_classes)
        self.duplicates = duplicates
        self.frequencies: ClassFrequencies | CountMinSketch
        counts_C = Classes.of(num_classes).counts
        if counts_C is None:
            self.frequencies = CountMinSketch(sketch_width, sketch_depth)
            self.approximation = "class frequencies are estimated from the labels seen so far"
        else:
            self.frequencies = ClassFrequencies(counts_C)

    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        if isinstance(self.frequencies, CountMinSketch):
            self.frequencies.add(labels)
        # A row alone in its batch sees no others, but the logit of its label must stay finite.
        num_others = max(len(labels) - 1, 2.0**-64)
        return Proposal(
            torch.unique(labels) if self.duplicates == "drop" else labels,
            lambda ids: log_label_count(label_probs(self.frequencies, ids), num_others, self.duplicates),
        )

    def state(self) -> dict[str, Tensor]:
        return self.frequencies.state() if isinstance(self.frequencies, CountMinSketch) else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        if isinstance(self.frequencies, CountMinSketch):
            self.frequencies.load_state(state)
        else:
            super().load_state(state)


class ClassFrequencies:
    """Counts of the training data, with the look-up of a sketch."""

    def __init__(self, counts_C: Tensor) -> None:
        self.total = float(counts_C.sum(dtype=torch.float64))
        self._counts_C = counts_C

    def estimate(self, ids: Tensor) -> Tensor:
        """The counts of classes, in the shape of ``ids``."""
        self._counts_C = self._counts_C.to(ids.device)
        return self._counts_C[ids]


def label_probs(frequencies: ClassFrequencies | CountMinSketch, ids: Tensor) -> Tensor:
    """float64 p(y), the share of each class among the labels.

    A class that never came counts as if it had come once, or its logarithm would be infinite. The total
    does not follow: the shares of the classes that do come are right as they are.
    """
    return frequencies.estimate(ids).clamp(min=1).double() / max(frequencies.total, 1)


def log_label_count(probs: Tensor, num_labels: float, duplicates: LabelDuplicates) -> Tensor:
    """Log expected count of classes of these probabilities among independent labels."""
    if duplicates == "keep":
        return math.log(num_labels) + probs.log()
    return log_at_least_once(-num_labels * torch.log1p(-probs))
