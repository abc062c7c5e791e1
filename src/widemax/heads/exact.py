"""The head that trains on all classes. Shapes: B rows, D hidden, C classes."""

from typing import Annotated, final

from pydantic import Field
from torch import Tensor

from widemax.errors import ConfigError
from widemax.heads.base import heads
from widemax.heads.labels import Labels
from widemax.heads.linear import LinearHead, LossName
from widemax.kernels import (
    plain_binary_cross_entropy,
    plain_cross_entropy,
    tiled_binary_cross_entropy,
    tiled_cross_entropy,
)
from widemax.losses import reduce_loss
from widemax.losses.base import Reduction

# Up to here the whole matrix of logits is cheaper to keep than to compute twice.
PLAIN_ELEMENTS = 2**22


@final
@heads.register("exact")
class ExactHead(LinearHead):
    """The exact loss over all classes, streamed over tiles of classes when [B, C] logits would be large.

    Cross-entropy: ℓ_b = log Z_b − Σ_p s_bp / P_b over the row's P_b labels (0 without labels). Binary
    cross-entropy: ℓ_b = Σ_j softplus(s_bj) − Σ_p s_bp.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.
        class_counts: [C] how often each class occurs in the training data; sets the first biases.
        num_rows: rows of the training data, for the first biases of binary cross-entropy.
        loss: "cross_entropy" for exactly one right class, "binary_cross_entropy" for any number.
        temperature: divides the logits.
        label_smoothing: ε, the part of the target spread evenly over all classes; cross-entropy only.
        bias: whether classes have biases.

    Raises:
        ConfigError: label smoothing with binary cross-entropy.

    Example:
        >>> import torch
        >>> head = ExactHead(1000, 16)
        >>> head(torch.zeros(2, 16), torch.tensor([3, 999])).detach()  # log 1000
        tensor(6.9078)
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        class_counts: Tensor | None = None,
        num_rows: int | None = None,
        *,
        loss: LossName = "cross_entropy",
        temperature: Annotated[float, Field(gt=0.0)] = 1.0,
        label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_classes, dim, class_counts, num_rows, loss=loss, temperature=temperature, bias=bias
        )
        if label_smoothing and loss == "binary_cross_entropy":
            raise ConfigError(
                f"label_smoothing must be 0 with loss 'binary_cross_entropy'; got {label_smoothing}. "
                "Remove it, or use loss 'cross_entropy'."
            )
        self.label_smoothing = label_smoothing

    def forward(
        self,
        hidden: Tensor,
        labels: Labels,
        *,
        sample_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        pairs = self._training_pairs(hidden, labels)
        layer = hidden, self.weight, self.bias, pairs, self._target_weights(pairs, len(hidden))
        is_small = len(hidden) * self.num_classes <= PLAIN_ELEMENTS
        if self.loss == "cross_entropy":
            cross_entropy = plain_cross_entropy if is_small else tiled_cross_entropy
            loss_B = cross_entropy(*layer, temperature=self.temperature, label_smoothing=self.label_smoothing)
        else:
            binary = plain_binary_cross_entropy if is_small else tiled_binary_cross_entropy
            loss_B = binary(*layer, temperature=self.temperature)
        return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)
