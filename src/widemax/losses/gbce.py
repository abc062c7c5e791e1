"""Generalized binary cross-entropy, which undoes the overconfidence of sampled negatives."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses
from widemax.losses.binary_cross_entropy import binary_cross_entropy
from widemax.options import checked

Calibration = Annotated[float, Field(ge=0.0, le=1.0)]
SamplingRate = Annotated[float, Field(gt=0.0, le=1.0)]


@checked
def gbce_beta(*, calibration: Calibration, sampling_rate: SamplingRate) -> float:
    """Power of the positive probability, the same as the weight of its logarithm.

    β = α ((1 − 1/α) t + 1/α) = 1 − t (1 − α).

    Args:
        calibration: t, 0 to leave the sampled probabilities as they are, 1 to calibrate them fully.
        sampling_rate: α, the share of the wrong classes that stand as negatives.

    Returns:
        β between α and 1.

    Example:
        >>> gbce_beta(calibration=0.5, sampling_rate=0.5)
        0.75
    """
    return 1 - calibration * (1 - sampling_rate)


@losses.register("gbce", takes="targets", answers="sigmoid")
def gbce(
    logits: Tensor, targets: Tensor, *, calibration: Calibration = 0.75, sampling_rate: SamplingRate = 1.0
) -> Tensor:
    """Binary cross-entropy whose positive term is weighted as if all negatives had been there.

    ℓ_b = Σ_j β y_bj softplus(−s_bj) + (1 − y_bj) softplus(s_bj), β = 1 − t (1 − α). The positive term is
    −log sigmoid(s)^β without ever forming the power, so neither value nor gradient saturates.

    Use: for negatives that you draw uniformly yourself, a fixed number for each positive. Over all classes it
    is ``binary_cross_entropy``. The head "sampled" with the correction "importance" is unbiased under any
    sampler and needs no rate.

    Args:
        logits: [B, C] log odds of the positives and of the negatives that were drawn.
        calibration: t, 0 for binary cross-entropy, 1 for calibrated probabilities.
        sampling_rate: α, the number of negatives a positive over the number of wrong classes.

    Example:
        >>> gbce(torch.tensor([[-50.0]]), torch.tensor([[1.0]]), calibration=1.0, sampling_rate=0.1)
        tensor([5.])

    Source: Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with
    Negative Sampling" (RecSys 2023), which writes β as α ((1 − 1/α) t + 1/α).
    """
    beta = gbce_beta(calibration=calibration, sampling_rate=sampling_rate)
    return binary_cross_entropy(logits, targets, positive_weight=torch.tensor(beta, dtype=torch.float64))
