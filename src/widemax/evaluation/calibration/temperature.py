"""The temperature that makes a trained model's probabilities right on held-out rows."""

import math
from collections.abc import Callable

from widemax.errors import UsageError

LOWEST, HIGHEST = 0.05, 20.0
MAX_EVALUATIONS = 25


def fit_temperature(nll: Callable[[float], float]) -> float:
    """The T in [0.05, 20] that minimizes the held-out nll of softmax(logits / T).

    The nll is convex in 1/T, so it has one valley over log T; Brent's method finds it in about a dozen
    calls and never makes more than 25, each of which may stream over data too large for memory.

    Args:
        nll: temperature → mean negative log-likelihood in nats of held-out rows.

    Returns:
        The temperature. An end of the interval means that the rows want an even flatter or sharper model.

    Raises:
        UsageError: the nll is nan.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2.

    Example:
        >>> round(fit_temperature(lambda T: (1 / T - 0.5) ** 2), 3)
        2.0
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
        return value

    found = minimize_scalar(
        nll_of_log,
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-5, "maxiter": MAX_EVALUATIONS},
    )
    return math.exp(found.x)
