"""The head that trains on all classes. Shapes: B rows, b rows of one chunk, D hidden, C classes, P labels."""

from collections.abc import Callable
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from widemax.errors import ConfigError
from widemax.heads.base import heads
from widemax.heads.labels import Labels
from widemax.heads.linear import LinearHead
from widemax.heads.scores import Score
from widemax.kernels import (
    Pairs,
    SkippedTiles,
    fused_binary_cross_entropy,
    fused_cross_entropy,
    plain_binary_cross_entropy,
    plain_cross_entropy,
    rows_at_once,
    tiled_binary_cross_entropy,
    tiled_cross_entropy,
)
from widemax.losses import losses, reduce_loss, row_weights
from widemax.losses.base import Reduction, check_reduction, takes_cosines, takes_several
from widemax.numerics.arrays import widened_tensor
from widemax.registry import Spec

# Up to here the whole matrix of logits is cheaper to keep than to cut into tiles.
PLAIN_ELEMENTS = 2**20
# Logits of the rows that are taken together where a loss needs the matrix.
CHUNK_ELEMENTS = 2**22
# A label that no data has: every other one outside the classes is refused.
NO_CLASS = 2**62 + 1

WideLoss = Callable[..., Tensor]
# Losses that can be computed without the matrix of logits: in memory, streamed, and with their gradients.
WIDE_LOSSES: dict[str, tuple[WideLoss, WideLoss, WideLoss]] = {
    "cross_entropy": (plain_cross_entropy, tiled_cross_entropy, fused_cross_entropy),
    "binary_cross_entropy": (
        plain_binary_cross_entropy,
        tiled_binary_cross_entropy,
        fused_binary_cross_entropy,
    ),
}


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
        self.wide_loss = None if self.score.has_margin or isinstance(loss, dict) else WIDE_LOSSES.get(name)
        if skip_mass and not (name == "cross_entropy" and self.wide_loss):
            raise ConfigError(
                f"skip_mass must be 0 unless loss is 'cross_entropy' without a margin; got {skip_mass}. "
                "Remove it."
            )
        self.skipped = SkippedTiles(skip_mass) if skip_mass else None
        self.is_torch_loss = name == "cross_entropy" and self.wide_loss is not None
        if label_smoothing and not (name == "cross_entropy" and self.wide_loss):
            raise ConfigError(
                f"label_smoothing must be 0 unless loss is 'cross_entropy' without a margin; got "
                f"{label_smoothing}. Remove it, or set it in the loss's own table if the loss has it."
            )

    def forward(
        self,
        hidden: Tensor,
        labels: Labels,
        *,
        sample_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        # Only the plain form can be transformed by torch.func, and traced by torch.compile.
        is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        is_small = is_traced or len(hidden) * self.num_classes <= PLAIN_ELEMENTS
        is_plain = is_small and self.is_torch_loss and len(hidden)
        if is_plain and isinstance(labels, Tensor) and labels.dtype == torch.int64:
            return self._by_torch(hidden, labels, sample_weight, reduction)
        pairs = self._training_pairs(hidden, labels)
        if self.wide_loss is None:
            loss_B = self._by_chunks(hidden, pairs, isinstance(labels, Tensor))
            return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)
        inputs = (
            *(self.score.scaled(hidden), self.score.scaled(self.weight), self.bias),
            *(pairs, self._target_weights(pairs, len(hidden))),
        )
        options = {"temperature": self.temperature}
        if self.label_smoothing:
            options["label_smoothing"] = self.label_smoothing
        plain, tiled, fused = self.wide_loss
        num_rows = len(hidden)
        if is_small:
            loss_B = plain(*inputs, **options)
            return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)
        if (
            reduction == "none"
            or not torch.is_grad_enabled()
            or (sample_weight is not None and sample_weight.requires_grad)
            or not rows_at_once(num_rows, hidden.shape[1], self.num_classes)
        ):
            loss_B = tiled(*inputs, **options)
        else:
            weights_B = row_weights(hidden, sample_weight=sample_weight, reduction=reduction)
            skip = {} if self.skipped is None else {"skipped": self.skipped}
            return fused(*inputs, weights_B, **options, **skip)
        return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)

    def _by_torch(
        self, hidden: Tensor, labels: Tensor, sample_weight: Tensor | None, reduction: Reduction
    ) -> Tensor:
        """torch's own loss: with few classes and one label a row, calls take more time than arithmetic."""
        logits = nn.functional.linear(self.score.scaled(hidden), self.score.scaled(self.weight), self.bias)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        try:
            loss = nn.functional.cross_entropy(
                widened_tensor(logits),
                labels,
                reduction=reduction if sample_weight is None else "none",
                label_smoothing=self.label_smoothing,
                ignore_index=NO_CLASS,
            )
        except (IndexError, RuntimeError, ValueError):
            # Words of our own for labels outside the classes, shapes that do not fit, an unknown reduction.
            self._training_pairs(hidden, labels)
            check_reduction(reduction)
            raise
        return (
            loss
            if sample_weight is None
            else reduce_loss(loss, sample_weight=sample_weight, reduction=reduction)
        )

    def _by_chunks(self, hidden_BD: Tensor, pairs: Pairs, one_label: bool) -> Tensor:
        weight_CD = self.score.scaled(self.weight)
        size = max(1, CHUNK_ELEMENTS // self.num_classes)
        if len(hidden_BD) <= size or torch.compiler.is_compiling():
            return self._chunk_loss(hidden_BD, weight_CD, pairs, one_label)
        parts = []
        for start in range(0, len(hidden_BD), size):
            chunk_bD = hidden_BD[start : start + size]
            chunk_pairs = pairs.of_rows(start, start + size)[1]
            parts.append(
                checkpoint(self._chunk_loss, chunk_bD, weight_CD, chunk_pairs, one_label, use_reentrant=False)
            )
        return torch.cat(parts)

    def _chunk_loss(self, hidden_bD: Tensor, weight_CD: Tensor, pairs: Pairs, one_label: bool) -> Tensor:
        scores_bC = widened_tensor(self.score.scaled(hidden_bD) @ weight_CD.T)
        if self.score.has_margin:
            norms_P = torch.linalg.vector_norm(hidden_bD, dim=1)[pairs.rows_P]
            scores_P = self.score.of_labels(scores_bC[pairs.rows_P, pairs.ids_P], norms_P)
            scores_bC = scores_bC.index_put((pairs.rows_P, pairs.ids_P), scores_P)
        logits_bC = (scores_bC if self.bias is None else scores_bC + self.bias) / self.temperature
        if one_label and not takes_several(self.loss):
            return self.loss(logits_bC, pairs.ids_P, **self.loss_options)
        shares_P = self._target_weights(pairs, len(hidden_bD)).to(logits_bC.dtype)
        if takes_several(self.loss):
            shares_P = torch.ones_like(shares_P)
        target_bC = torch.zeros_like(logits_bC).index_put((pairs.rows_P, pairs.ids_P), shares_P)
        return self.loss(logits_bC, target_bC, **self.loss_options)
