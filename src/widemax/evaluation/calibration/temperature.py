"""The temperature that makes a trained model's probabilities right on held-out rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from widemax.errors import UsageError
from widemax.evaluation.calibration.calibrated import CalibratedTopK, Normalizer, normalized
from widemax.evaluation.calibration.known_logits import KnownLogits
from widemax.evaluation.rows import FloatArray
from widemax.options import checked

LOWEST, HIGHEST = 0.05, 20.0
MAX_EVALUATIONS = 25
PRIOR_STRENGTH = 10.0
"""About what 40 rows say of a temperature: a row's logits have a variance near 1/4 under the model."""
PENALTY = 100.0
"""What each nat by which the nll might be worse than without scaling counts in a fit."""


@checked
def fit_temperature(nll: Callable[[float], float], *, num_rows: Annotated[float, Field(gt=0.0)]) -> float:
    """The T in [0.05, 20] that minimizes the held-out nll of softmax(logits / T), drawn to 1 by few rows.

    N · nll(T) + λ (1/T − 1 + log T) is minimized: the gamma prior on 1/T that is largest at T = 1. Few rows,
    which may all be right by chance, so change little, and many find their own temperature. The sum is convex
    in 1/T, so it has one local minimum over log T; Brent's method finds it in about a dozen calls and never
    makes more than 25, each of which may stream over data too large for memory.

    Args:
        nll: temperature → mean negative log-likelihood in nats of held-out rows.
        num_rows: N, how many these are.

    Returns:
        The temperature. An end of the interval means that the rows want an even flatter or sharper model.

    Raises:
        UsageError: the nll is nan.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2.

    Example:
        >>> [round(fit_temperature(lambda T: (1 / T - 0.5) ** 2, num_rows=n), 2) for n in (1e6, 20)]
        [2.0, 1.56]
    """
    # The optimizers of scipy take longer to import than the rest of this room together.
    from scipy.optimize import minimize_scalar

    def nll_of_log(log_temperature: float) -> float:
        value = nll(math.exp(log_temperature))
        if math.isnan(value):
            raise UsageError(
                f"nll must return a number; it returned nan at temperature {math.exp(log_temperature):.4g}. "
                "Leave out rows whose label was never seen in training."
            )
        return value + prior(math.exp(-log_temperature))[0] / num_rows

    found = minimize_scalar(
        nll_of_log,
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-5, "maxiter": MAX_EVALUATIONS},
    )
    return math.exp(found.x)


def prior(weight: float) -> tuple[float, float]:
    """The penalty on an inverse temperature, 0 at 1, and its slope."""
    return PRIOR_STRENGTH * (weight - 1 - math.log(weight)), PRIOR_STRENGTH * (1 - 1 / weight)


@checked
@dataclass(frozen=True)
class Temperature:
    """softmax(logits / T) from a few logits of each row, where the [B, C] matrix is too large to keep.

    log Σ_j exp(s_j / T) is estimated as :meth:`KnownLogits.log_partition_at` says, and bounded by
    :meth:`KnownLogits.log_partition_bounds`. Where the head can give the nll at any temperature,
    :func:`fit_temperature` is exact and needs no estimate.

    Args:
        temperature: T.
        normalizer: whether the fit was "exact" or rests on an "estimated" tail.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2.

    Example:
        >>> known = KnownLogits(np.array([[1, 0]]), np.array([[2.0, 0.0]]), np.log([np.e**2 + 1]), 2)
        >>> np.exp(Temperature(2.0).apply(known).log_probs).round(3).tolist()
        [[0.731, 0.269]]
    """

    temperature: Annotated[float, Field(gt=0.0)]
    normalizer: Normalizer = "exact"

    @classmethod
    @checked
    def fit(cls, known: KnownLogits) -> "Temperature":
        """Minimize nll(T) = mean(log Σ_j exp(s_j / T) − s_y / T) over T, as :func:`fit_temperature` does.

        Of the temperatures only those are considered whose nll cannot be worse than the known one at T = 1,
        however the tail's mass is spread. Scaling so never raises the nll of the held-out rows, and lists too
        short to tell a better temperature give one near 1.

        Args:
            known: held-out rows with labels; those with a label never seen are left out. A label outside the
                K best counts with its own logit, not as part of the tail.

        Raises:
            UsageError: no row has a label that training saw.
        """
        rows = known.held_out()
        assert rows.label_logits_B is not None
        mean_label_logit = float(rows.label_logits_B.mean(dtype=np.float64))

        def nll(log_partition_B: FloatArray, temperature: float) -> float:
            return float(log_partition_B.mean()) - mean_label_logit / temperature

        nll_at_1 = nll(rows.log_partition_at(1.0), 1.0)

        def guarded(temperature: float) -> float:
            _, upper_B = rows.log_partition_bounds(temperature)
            excess = max(0.0, nll(upper_B, temperature) - nll_at_1)
            return nll(rows.log_partition_at(temperature), temperature) + PENALTY * excess

        return cls(fit_temperature(guarded, num_rows=len(rows.ids_BK)), known.normalizer)

    @checked
    def apply(self, known: KnownLogits) -> CalibratedTopK:
        """Scaled probabilities of the listed classes; labels are not looked at."""
        rows = known.without_labels()
        logits_BK = rows.atom_logits_BA / self.temperature
        return normalized(logits_BK, rows.log_tail_at(self.temperature), rows.normalizer)
