"""Center loss. Shapes: B rows, D hidden, C classes, U distinct labels of a batch."""

from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor, nn

from widemax.auxiliaries.base import auxiliaries
from widemax.errors import ShapeError
from widemax.losses.base import check_labels
from widemax.numerics.arrays import widened_tensor


@final
@auxiliaries.register("center_loss")
class CenterLoss(nn.Module):
    """Pulls hidden vectors towards the center of their class, and centers towards their hidden vectors.

    ℓ_b = (λ/2) ‖h_b − c_{y_b}‖². The sum over rows is the paper's equation 2; the mean fits beside a mean
    cross-entropy. Each call in training mode then moves the centers of the classes in the batch::

        Δc_j = Σ_b 1{y_b = j} (c_j − h_b) / (1 + Σ_b 1{y_b = j}),    c_j ← c_j − α Δc_j

    with the centers of before the call on the right, so that rows of one class move it together. Loss and
    update cost O(B·D), whatever the number of classes. Centers start at 0, get no gradient and belong to the
    state dict.

    Use: beside a softmax loss, where hidden vectors are compared by distance later and should gather by
    class. It pulls together but pushes nothing apart, so never use it alone; for comparisons by cosine take a
    score with a margin.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.
        strength: λ, the weight of the loss beside the main one.
        rate: α, how far centers move.
        ignore_index: rows with this class id have loss 0 and move nothing.

    Example:
        >>> center_loss = CenterLoss(10, 1, strength=1.0, rate=0.5)
        >>> center_loss(torch.tensor([[3.0], [1.0]]), torch.tensor([7, 7]))
        tensor([4.5000, 0.5000])
        >>> center_loss.centers[7]  # 0.5 · (3 + 1) / (1 + 2)
        tensor([0.6667])

    Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition" (ECCV 2016),
    equations 2 to 4 and algorithm 1.
    """

    waits: ClassVar[frozenset[str]] = frozenset({"select", "unique"})
    """What a step waits for on an accelerator, in the words of :class:`widemax.heads.Head`."""

    centers: Tensor

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        strength: Annotated[float, Field(ge=0.0)] = 0.003,
        rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        self.strength = strength
        self.rate = rate
        self.ignore_index = ignore_index
        self.register_buffer("centers", torch.zeros(num_classes, dim))

    def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """The loss at the present centers, which then move if the module is in training mode.

        Args:
            hidden: [B, D] hidden vectors.
            labels: [B] class ids.

        Returns:
            [B] losses, λ included; 0 for ignored rows.

        Raises:
            LabelError: a class id outside [0, C), with its row.
            ShapeError: not one class id a row, or hidden vectors of another length.
        """
        ignored_B = self._check(hidden, labels)
        differences_BD = widened_tensor(hidden) - self.centers[labels.masked_fill(ignored_B, 0)]
        # Ignored rows are zeroed before they are squared, so that even inf in them leaves no trace.
        differences_BD = differences_BD.masked_fill(ignored_B[:, None], 0.0)
        if self.training:
            self._move(differences_BD.detach()[~ignored_B], labels[~ignored_B])
        return self.strength / 2 * differences_BD.square().sum(1)

    def _move(self, differences_BD: Tensor, labels_B: Tensor) -> None:
        ids_U, places_B, counts_U = torch.unique(labels_B, return_inverse=True, return_counts=True)
        sums_UD = differences_BD.new_zeros(len(ids_U), differences_BD.shape[1])
        sums_UD.index_add_(0, places_B, differences_BD)
        moves_UD = self.rate * sums_UD / (1 + counts_U)[:, None]
        self.centers.index_add_(0, ids_U, moves_UD.to(self.centers.dtype))

    def _check(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """[B] whether a row is ignored."""
        num_classes, dim = self.centers.shape
        if hidden.ndim != 2 or hidden.shape[1] != dim:
            raise ShapeError(f"hidden must have the shape [rows, {dim}]; got {tuple(hidden.shape)}.")
        if labels.shape != hidden.shape[:1] or labels.is_floating_point():
            raise ShapeError(
                f"labels must be {len(hidden)} class ids; got {labels.dtype} of shape {tuple(labels.shape)}."
            )
        check_labels(labels, num_classes, ignore_index=self.ignore_index)
        return labels == self.ignore_index
