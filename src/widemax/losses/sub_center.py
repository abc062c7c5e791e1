"""Several weights a class, of which the nearest counts. Shapes: B rows, D hidden, C classes, K weights."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from widemax.errors import ShapeError
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.autocast import without_autocast
from widemax.numerics.ids import explained
from widemax.options import checked


@explained
@checked
def sub_center_cosines(hidden: Tensor, weight: Tensor) -> Tensor:
    """Cosine between each hidden vector and the nearest sub-center of each class.

    cos_bc = max_k ⟨h_b, w_ck⟩ / (‖h_b‖ ‖w_ck‖). Noisy examples of a class gather at sub-centers of their own;
    the cosines go into any loss of cosines, such as :func:`widemax.losses.arcface`.

    Args:
        hidden: [B, D] hidden vectors; a zero vector has cosine 0 with everything.
        weight: [C, K, D] sub-centers.

    Returns:
        [B, C] cosines, in float32 at least.

    Raises:
        ShapeError: other shapes.

    Example:
        >>> weight = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[-1.0, 0.0], [0.0, -1.0]]])
        >>> sub_center_cosines(torch.tensor([[0.0, 3.0]]), weight)
        tensor([[1., 0.]])

    Source: Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces" (ECCV
    2020).
    """
    if hidden.ndim != 2 or weight.ndim != 3 or hidden.shape[1] != weight.shape[2]:
        raise ShapeError(
            "hidden and weight must be [B, D] and [C, K, D], rows as long as the sub-centers; got shapes "
            f"{tuple(hidden.shape)} and {tuple(weight.shape)}."
        )
    hidden_BD = normalize(widened_tensor(hidden), dim=1)
    weight_CKD = normalize(widened_tensor(weight), dim=2)
    # A small temperature multiplies what autocast would round.
    with without_autocast(hidden):
        return torch.einsum("bd,ckd->bck", hidden_BD, weight_CKD).amax(2)
