"""The head that trains on all classes. Shapes: B rows, b rows of one chunk, D hidden, C classes, P labels."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, TypeGuard, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from widemax.classes import Classes
from widemax.errors import ConfigError, ShapeError
from widemax.heads.base import Dim, heads
from widemax.heads.exact_loss import Smoothing, Temperature, exact_loss, margin_shifts
from widemax.heads.labels import Labels, target_shares, training_pairs
from widemax.heads.linear import LinearHead
from widemax.heads.scores import Score
from widemax.kernels import Pairs, SkippedTiles, budget, small_cross_entropy
from widemax.losses import binary_cross_entropy, cross_entropy, losses
from widemax.losses.base import Reduction
from widemax.numerics.arrays import widened_tensor
from widemax.registry import Spec, called

# Losses that can be computed without the matrix of logits, and the options that the first may have then.
WIDE_LOSSES = (cross_entropy, binary_cross_entropy)
WIDE_OPTIONS = ("class_weight", "z_loss")


@final
@heads.register("exact")
class ExactHead(LinearHead):
    """The exact loss over all classes.

    Cross-entropy: ℓ_b = log Z_b − Σ_p s_bp / P_b over the row's P_b labels (0 without labels). Binary
    cross-entropy: ℓ_b = Σ_j softplus(s_bj) − Σ_p s_bp. Both are streamed over tiles of classes when [B, C]
    logits would be large, also where the score has a margin, and with the options class_weight and z_loss of
    cross-entropy. Any other loss or option takes the logits of a few rows at a time, and computes them again
    in the backward pass.

    Use: the first choice as long as a step over all classes is affordable, which ``widemax plan`` tells: its
    gradient has no noise, and it takes every loss. Beyond that take "sampled".

    Args:
        loss: the name of a loss, a table with its kind and options, or a function such as those of
            ``widemax.losses``, which declares with ``@losses.declare`` what it takes and answers.
        label_smoothing: ε, the part of the target spread evenly over all classes; loss "cross_entropy" only.
        skip_mass: the most probability that a row's gradient may lose, in exchange for time: tiles of classes
            that hold less of every row are left out of the gradient, never of the loss. 0 computes all. Loss
            "cross_entropy" only, with or without a margin; ``skipped`` says how much the last step left out.

    Raises:
        ConfigError: label smoothing or ``skip_mass`` with another loss; a loss of cosines.

    Example:
        >>> head = ExactHead(1000, 16)
        >>> head(torch.zeros(2, 16), torch.tensor([3, 999])).detach()  # log 1000
        tensor(6.9078)

    Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax" (log Z over tiles).
    """

    # Keeps it from growing sure of its training rows; calibration then puts probabilities right.
    training_options: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.1}

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        weight: nn.Parameter | nn.Module | None = None,
        *,
        loss: Spec | Callable[..., Tensor] = "cross_entropy",
        temperature: Temperature = 1.0,
        label_smoothing: Smoothing = 0.0,
        bias: bool = True,
        score: Spec | type[Score] | Score = "dot",
        skip_mass: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        member, options = losses.choose(loss)
        declared = losses.traits(member)
        super().__init__(
            num_classes,
            dim,
            weight,
            normalizer=declared.answers,
            temperature=temperature,
            bias=bias,
            score=score,
        )
        self.loss, self.loss_options = member, options
        self.takes_targets = declared.takes == "targets"
        if declared.of == "cosines":
            raise ConfigError(
                f"the loss {called(self.loss)!r} is of cosines, which a head gets from its score: leave out "
                "loss, and give the head 'exact', 'sampled' or 'sub_center' the score 'cosine', 'cosface', "
                "'arcface' or 'adaface' and a temperature such as 0.0156."
            )
        self.label_smoothing = label_smoothing
        defaults = losses.choose(self.loss)[1]
        self.is_wide = self.loss in WIDE_LOSSES and self.loss_options == defaults
        self.wide_options = {}
        if self.loss is cross_entropy:
            self.wide_options = {name: self.loss_options[name] for name in WIDE_OPTIONS}
        others = self.loss_options | {name: defaults[name] for name in self.wide_options}
        self.is_streamed = self.loss in WIDE_LOSSES and others == defaults
        is_wide_softmax = self.is_wide and self.loss is cross_entropy
        if skip_mass and not is_wide_softmax:
            raise ConfigError(
                f"skip_mass must be 0 unless loss is 'cross_entropy'; got {skip_mass}. Remove it."
            )
        self.skipped = SkippedTiles(skip_mass) if skip_mass else None
        self.is_small = is_wide_softmax and not (self.score.is_cosine or self.score.has_margin or skip_mass)
        if label_smoothing and not is_wide_softmax:
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
        if sample_weight is None and hidden.is_cpu and self.takes_few(labels, hidden.shape[0]):
            return small_cross_entropy(
                *(hidden, self.weight, self.bias, labels),
                *(self.temperature, self.label_smoothing, reduction),
            )
        if self.is_streamed:
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
                **self.wide_options,
            )
        return super().forward(hidden, labels, sample_weight=sample_weight, reduction=reduction)

    def takes_few(self, labels: Labels, num_rows: int) -> TypeGuard[Tensor]:
        """Whether the loss of so many rows takes less time than the calls of what it comes to otherwise."""
        return (
            self.is_small
            and self._parameters.get("weight") is not None
            and isinstance(labels, Tensor)
            and labels.is_cpu
            and labels.dtype == torch.int64
            and labels.ndim == 1
            and 0 < labels.numel() == num_rows <= budget.PLAIN_ELEMENTS // self.num_classes
        )

    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        """[B] losses from the logits of a few rows at a time, computed again in the backward pass."""
        if self.is_streamed:
            return self.forward(hidden, labels, reduction="none")
        pairs = training_pairs(labels, hidden, self.num_classes)
        weight_CD = self.score.scaled(self.weight)
        shifts_P = margin_shifts(hidden, self.weight, pairs, self.score) if self.score.has_margin else None
        size = max(1, budget.CHUNK_ELEMENTS // self.num_classes)
        hidden_BD, one_label = self.score.scaled(hidden), isinstance(labels, Tensor)
        if torch.compiler.is_compiling() or len(hidden) <= size:
            return self._chunk_loss(hidden_BD, weight_CD, pairs, shifts_P, one_label)
        parts = []
        for start in range(0, len(hidden), size):
            where, chunk_pairs = pairs.of_rows(start, start + size)
            chunk = chunk_pairs, None if shifts_P is None else shifts_P[where], one_label
            chunk_bD = hidden_BD[start : start + size]
            parts.append(checkpoint(self._chunk_loss, chunk_bD, weight_CD, *chunk, use_reentrant=False))
        return torch.cat(parts)

    def _chunk_loss(
        self, hidden_bD: Tensor, weight_CD: Tensor, pairs: Pairs, shifts_P: Tensor | None, one_label: bool
    ) -> Tensor:
        scores_bC = widened_tensor(hidden_bD @ weight_CD.T)
        if shifts_P is not None:
            scores_bC = scores_bC.index_put(tuple(pairs), shifts_P, accumulate=True)
        logits_bC = (scores_bC if self.bias is None else scores_bC + self.bias) / self.temperature
        if one_label and not self.takes_targets:
            truth = pairs.ids_P
        else:
            shares_P = target_shares(pairs, len(hidden_bD)).to(logits_bC.dtype)
            if self.takes_targets:
                shares_P = torch.ones_like(shares_P)
            truth = torch.zeros_like(logits_bC).index_put(tuple(pairs), shares_P)
        loss_b = self.loss(logits_bC, truth, **self.loss_options)
        if loss_b.shape != (len(hidden_bD),):
            raise ShapeError(
                f"the loss {called(self.loss)!r} must give one number a row, [{len(hidden_bD)}]; got shape "
                f"{tuple(loss_b.shape)}. Let the head reduce it."
            )
        return loss_b
