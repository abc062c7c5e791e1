"""What every scaling gives back. Shapes: B rows, K listed classes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from widemax.evaluation.calibration.log_sums import log_sum_exp
from widemax.evaluation.rows import FloatArray

Normalizer = Literal["exact", "estimated"]


@dataclass(frozen=True, eq=False)
class CalibratedTopK:
    """Scaled probabilities of the listed classes, in the order they came in; with the tail they sum to 1.

    A scaling that treats classes differently can change their order, and lift a class of the tail above
    listed ones; it then stays in the tail.

    Attributes:
        log_probs: [B, K] log-probabilities in nats of the K classes.
        log_tail: [B] the log-probability of all other classes together.
        normalizer: "exact", or "estimated" when the tail had to be spread by assumption.
    """

    log_probs: FloatArray
    log_tail: FloatArray
    normalizer: Normalizer


def normalized(logits_BK: FloatArray, log_tail_B: FloatArray, normalizer: Normalizer) -> CalibratedTopK:
    """Scaled logits and a scaled tail as probabilities."""
    log_partition_B = np.logaddexp(log_sum_exp(logits_BK), log_tail_B)
    return CalibratedTopK(logits_BK - log_partition_B[:, None], log_tail_B - log_partition_B, normalizer)
