"""Contrastive softmax over similarities. Shapes: B rows, C candidates."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses
from widemax.losses.cross_entropy import cross_entropy
from widemax.numerics.arrays import widened_tensor


@losses.register("info_nce", takes="labels", answers="softmax")
def info_nce(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: Annotated[float, Field(gt=0.0)] = 0.07,
    ignore_index: int = -100,
) -> Tensor:
    """Cross-entropy of finding the right candidate by its similarity.

    ℓ_b = −log( exp(s_by / T) / Σ_j exp(s_bj / T) ).

    Use: for matching pairs (query and document, image and text) among the candidates at hand. In-batch
    candidates come as often as they are popular, and this loss does not correct for it: where they are
    classes with ids take the head "sampled" with the sampler "in_batch".

    Args:
        logits: [B, C] similarities. With other rows' candidates as negatives (in-batch softmax) it is [B, B]
            and ``labels`` is ``torch.arange(B)``.
        labels: [B] the right candidate of each row, or [B, C] target probabilities.
        temperature: T.
        ignore_index: rows with this label have loss 0.

    Raises:
        LabelError: a label outside [0, C), with its row.
        ShapeError: labels that fit neither form.

    Example:
        >>> import torch
        >>> info_nce(torch.eye(3), torch.arange(3), temperature=0.5)
        tensor([0.2395, 0.2395, 0.2395])

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (2018), equation
    4; temperature: Wu et al. (CVPR 2018), equation 2.
    """
    return cross_entropy(widened_tensor(logits) / temperature, labels, ignore_index=ignore_index)
