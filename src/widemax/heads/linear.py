"""Heads with one weight row a class. Shapes: B rows, D hidden, C classes, K kept, N asked, P labels."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from widemax.heads.answers import Answers, TopK
from widemax.heads.base import Head
from widemax.heads.labels import Labels, SeveralLabels, label_pairs, no_pairs
from widemax.kernels import Found, Pairs, stream_classes
from widemax.losses import check_labels
from widemax.numerics import log_sigmoid

LossName = Literal["cross_entropy", "binary_cross_entropy"]


class LinearHead(Head):
    """Logits are (h Wᵀ + bias) / temperature; the questions are answered exactly, whatever the training.

    Weights start normal with variance 1/D. Biases start where they alone predict the frequencies of the
    classes, if these are given, so that training does not begin by learning them.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.
        class_counts: [C] how often each class occurs in the training data.
        num_rows: rows of the training data; with counts it gives the marginal frequencies of yes-or-no
            questions, where counts need not sum to it.
        loss: "cross_entropy" for exactly one right class, "binary_cross_entropy" for any number.
        temperature: divides the logits.
        bias: whether classes have biases.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        class_counts: Tensor | None = None,
        num_rows: int | None = None,
        *,
        loss: LossName,
        temperature: float,
        bias: bool,
    ) -> None:
        super().__init__(num_classes, dim)
        self.loss = loss
        self.temperature = temperature
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        nn.init.normal_(self.weight, std=1 / math.sqrt(dim))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        if self.bias is not None and class_counts is not None:
            with torch.no_grad():
                self.bias.copy_(temperature * _prior_logits(class_counts, num_rows, loss))

    @torch.no_grad()
    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        scaled_BD, bias_C = self._answering(hidden)
        if class_ids is None:
            return nn.functional.linear(scaled_BD, self.weight, bias_C)
        bias_N = 0.0 if bias_C is None else bias_C[class_ids]
        if class_ids.ndim == 1:
            return scaled_BD @ self.weight[class_ids].T + bias_N
        return torch.einsum("bd,bnd->bn", scaled_BD, self.weight[class_ids]) + bias_N

    @torch.no_grad()
    def log_partition(self, hidden: Tensor) -> Tensor:
        return self._stream(hidden, no_pairs(hidden.device), k=0, exclude=None).log_partition_B

    @torch.no_grad()
    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        logits_BN = self.logits(hidden, class_ids)
        if self.loss == "binary_cross_entropy":
            return log_sigmoid(logits_BN)
        return logits_BN - self.log_partition(hidden)[:, None]

    @torch.no_grad()
    def topk(self, hidden: Tensor, k: int, *, exclude: SeveralLabels | None = None) -> TopK:
        return self._topk(self._stream(hidden, no_pairs(hidden.device), k=k, exclude=exclude))

    @torch.no_grad()
    def answer(
        self, hidden: Tensor, labels: Labels, *, k: int, exclude: SeveralLabels | None = None
    ) -> Answers:
        pairs = label_pairs(labels, hidden)
        check_labels(pairs.ids_P, self.num_classes, rows=pairs.rows_P, ignore_index=-1)
        found = self._stream(hidden, pairs, k=k, exclude=exclude)
        return Answers(
            self._topk(found),
            found.log_partition_B,
            found.label_logits_P,
            self._normalized(found.label_logits_P, found.log_partition_B[pairs.rows_P]),
            found.label_ranks_P,
        )

    def _answering(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Hidden vectors and biases divided by the temperatures, which costs less than dividing logits."""
        temperature = self.temperature * float(self.calibration_temperature)
        return hidden / temperature, None if self.bias is None else self.bias / temperature

    def _stream(self, hidden: Tensor, labels: Pairs, *, k: int, exclude: SeveralLabels | None) -> Found:
        scaled_BD, bias_C = self._answering(hidden)
        excluded = no_pairs(hidden.device) if exclude is None else self._excluded(exclude, hidden, labels)
        return stream_classes(scaled_BD, self.weight, bias_C, labels, excluded, k=min(k, self.num_classes))

    def _excluded(self, exclude: SeveralLabels, hidden: Tensor, labels: Pairs) -> Pairs:
        rows_P, ids_P = label_pairs(exclude, hidden)
        check_labels(ids_P.clamp(min=0), self.num_classes, rows=rows_P)
        is_label_P = torch.isin(
            rows_P * self.num_classes + ids_P, labels.rows_P * self.num_classes + labels.ids_P
        )
        kept_P = (ids_P >= 0) & ~is_label_P
        return Pairs(rows_P[kept_P], ids_P[kept_P])

    def _topk(self, found: Found) -> TopK:
        log_probs_BK = self._normalized(found.topk_logits_BK, found.log_partition_B[:, None])
        return TopK(found.topk_ids_BK, found.topk_logits_BK, log_probs_BK)

    def _normalized(self, logits: Tensor, log_partition: Tensor) -> Tensor:
        return log_sigmoid(logits) if self.loss == "binary_cross_entropy" else logits - log_partition

    def _training_pairs(self, hidden: Tensor, labels: Labels) -> Pairs:
        pairs = label_pairs(labels, hidden)
        if pairs.ids_P.device.type == "cpu":
            check_labels(pairs.ids_P, self.num_classes, rows=pairs.rows_P)
        return pairs

    def _target_weights(self, pairs: Pairs, num_rows: int) -> Tensor:
        """The target of a softmax is uniform over a row's labels; a yes-or-no question has no such share."""
        if self.loss == "binary_cross_entropy":
            return torch.ones_like(pairs.ids_P, dtype=torch.float64)
        return 1 / pairs.rows_P.bincount(minlength=num_rows)[pairs.rows_P].double()


def _prior_logits(class_counts: Tensor, num_rows: int | None, loss: LossName) -> Tensor:
    """[C] log frequencies, or log odds for yes-or-no questions, with one more row a class than was seen."""
    counts_C = class_counts.double()
    if loss == "cross_entropy":
        return torch.log1p(counts_C) - torch.log(counts_C.sum() + len(counts_C))
    total = counts_C.sum() if num_rows is None else torch.as_tensor(num_rows, dtype=torch.float64)
    return torch.log1p(counts_C) - torch.log1p(total - counts_C)
