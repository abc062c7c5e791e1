"""The head that trains on all classes. Shapes: B rows, b rows of one chunk, D hidden, C classes, P labels."""

from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from widemax.errors import ConfigError
from widemax.heads.base import heads
from widemax.heads.exact_loss import exact_loss, margin_shifts
from widemax.heads.labels import Labels, target_shares, training_pairs
from widemax.heads.linear import LinearHead
from widemax.heads.scores import Score
from widemax.kernels import Pairs, SkippedTiles, budget
from widemax.losses import losses, reduce_loss
from widemax.losses.base import Reduction, takes_cosines, takes_several
from widemax.numerics.arrays import widened_tensor
from widemax.registry import Spec

# Losses that can be computed without the matrix of logits.
WIDE_LOSSES = ("cross_entropy", "binary_cross_entropy")


@final
@heads.register("exact")
class ExactHead(LinearHead):
    """The exact loss over all classes.

    Cross-entropy: ℓ_b = log Z_b − Σ_p s_bp / P_b over the row's P_b labels (0 without labels). Binary
    cross-entropy: ℓ_b = Σ_j softplus(s_bj) − Σ_p s_bp. Both are streamed over tiles of classes when [B, C]
    logits would be large. Any other loss of the registry, an option beside these, or a score with a margin
    takes the logits of a few rows at a time, and computes them again in the backward pass.

    Use: the first choice as long as a step over all classes is affordable, which ``widemax plan`` tells: its
    gradient has no noise, and it takes every loss. Beyond that take "sampled".

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.
        class_counts: [C] how often each class occurs in the training data; sets the first biases.
        num_rows: rows of the training data, for the first biases of yes-or-no questions.
        weight: [C, D] a parameter to share, such as an embedding's; a new one without.
        loss: the name of a loss, or a table with its kind and options.
        temperature: divides the logits.
        label_smoothing: ε, the part of the target spread evenly over all classes; loss "cross_entropy" only.
        bias: whether classes have biases.
        score: how hidden vectors and class weights are compared: "dot", "cosine", or one with a margin.
        skip_mass: the most probability that a row's gradient may lose, in exchange for time: tiles of classes
            that hold less of every row are left out of the gradient, never of the loss. 0 computes all. Loss
            "cross_entropy" only; ``skipped`` says how much the last step left out.

    Raises:
        ConfigError: label smoothing or ``skip_mass`` with another loss, or with a margin; a loss of cosines.

    Example:
        >>> head = ExactHead(1000, 16)
        >>> head(torch.zeros(2, 16), torch.tensor([3, 999])).detach()  # log 1000
        tensor(6.9078)

    Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax" (log Z over tiles).
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        class_counts: Tensor | None = None,
        num_rows: int | None = None,
        weight: nn.Parameter | None = None,
        *,
        loss: Spec = "cross_entropy",
        temperature: Annotated[float, Field(gt=0.0)] = 1.0,
        label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        bias: bool = True,
        score: Spec | Score = "dot",
        skip_mass: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        name, self.loss_options = losses.choose(loss)
        self.loss = losses[name]
        normalizer = losses.traits(name).get(
            "normalizer", "sigmoid" if takes_several(self.loss) else "softmax"
        )
        super().__init__(
            num_classes,
            dim,
            class_counts,
            num_rows,
            weight,
            normalizer=normalizer,
            temperature=temperature,
            bias=bias,
            score=score,
        )
        if takes_cosines(self.loss):
            raise ConfigError(
                f"the loss {name!r} is of cosines, which a head gets from its score: set score = 'cosine', "
                "'cosface', 'arcface' or 'adaface' and a temperature such as 0.0156, and leave out loss."
            )
        self.label_smoothing = label_smoothing
        self.is_wide = name in WIDE_LOSSES and not isinstance(loss, dict)
        if skip_mass and not (name == "cross_entropy" and self.is_wide):
            raise ConfigError(
                f"skip_mass must be 0 unless loss is 'cross_entropy'; got {skip_mass}. Remove it."
            )
        self.skipped = SkippedTiles(skip_mass) if skip_mass else None
        if label_smoothing and not (name == "cross_entropy" and self.is_wide):
            raise ConfigError(
                f"label_smoothing must be 0 unless loss is 'cross_entropy'; got {label_smoothing}. "
                "Remove it, or set it in the loss's own table if the loss has it."
            )

    def forward(
        self,
        hidden: Tensor,
        labels: Labels,
        *,
        sample_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        if self.is_wide:
            return exact_loss(
                *(hidden, self.weight, labels),
                normalizer=self.normalizer,
                bias=self.bias,
                temperature=self.temperature,
                label_smoothing=self.label_smoothing,
                score=self.score,
                sample_weight=sample_weight,
                reduction=reduction,
                skipped=self.skipped,
            )
        loss_B = self._by_chunks(hidden, labels)
        return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)

    def _by_chunks(self, hidden_BD: Tensor, labels: Labels) -> Tensor:
        """[B] losses from the logits of a few rows at a time, computed again in the backward pass."""
        pairs = training_pairs(labels, hidden_BD, self.num_classes)
        weight_CD = self.score.scaled(self.weight)
        shifts_P = margin_shifts(hidden_BD, self.weight, pairs, self.score) if self.score.has_margin else None
        size = max(1, budget.CHUNK_ELEMENTS // self.num_classes)
        parts = []
        for start in range(0, max(len(hidden_BD), 1), size):
            chunk_bD = self.score.scaled(hidden_BD[start : start + size])
            where, chunk_pairs = pairs.of_rows(start, start + size)
            chunk = chunk_bD, weight_CD, chunk_pairs, None if shifts_P is None else shifts_P[where]
            if len(hidden_BD) <= size:
                return self._chunk_loss(*chunk, isinstance(labels, Tensor))
            parts.append(
                checkpoint(self._chunk_loss, *chunk, isinstance(labels, Tensor), use_reentrant=False)
            )
        return torch.cat(parts)

    def _chunk_loss(
        self, hidden_bD: Tensor, weight_CD: Tensor, pairs: Pairs, shifts_P: Tensor | None, one_label: bool
    ) -> Tensor:
        scores_bC = widened_tensor(hidden_bD @ weight_CD.T)
        if shifts_P is not None:
            scores_bC = scores_bC.index_put(tuple(pairs), shifts_P, accumulate=True)
        logits_bC = (scores_bC if self.bias is None else scores_bC + self.bias) / self.temperature
        if one_label and not takes_several(self.loss):
            return self.loss(logits_bC, pairs.ids_P, **self.loss_options)
        if takes_several(self.loss):
            shares_P = torch.ones_like(pairs.ids_P, dtype=logits_bC.dtype)
        else:
            shares_P = target_shares(pairs, len(hidden_bD)).to(logits_bC.dtype)
        target_bC = torch.zeros_like(logits_bC).index_put(tuple(pairs), shares_P)
        return self.loss(logits_bC, target_bC, **self.loss_options)
