"""Types and ranges of the options of estimators, checked when fitting, as scikit-learn wants it."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from widemax.errors import ConfigError

Positive = Annotated[float, Field(gt=0.0)]
PositiveOrInf = Annotated[float, Field(gt=0.0, allow_inf_nan=True)]
NonNegative = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)] | np.random.RandomState | None


class Range(NamedTuple):
    """Values that an option may have, and the words for them."""

    kind: type
    inside: Callable[[Any], bool]
    words: str


ABOVE_0 = Range(Real, lambda value: 0 < value < math.inf, "a finite number above 0")
ABOVE_0_OR_INF = Range(Real, lambda value: value > 0, "a number above 0")
AT_LEAST_0 = Range(Real, lambda value: 0 <= value < math.inf, "a finite number of at least 0")
SHARE = Range(Real, lambda value: 0 <= value <= 1, "a number in [0, 1]")
COUNT = Range(Integral, lambda value: value >= 1, "a whole number of at least 1")


def check_options(estimator: Any, **ranges: Range) -> None:
    """Refuse the first option of the estimator outside its range.

    Raises:
        ConfigError: names the option and its value.
    """
    for name, allowed in ranges.items():
        value = getattr(estimator, name)
        if not (isinstance(value, allowed.kind) and allowed.inside(value)):
            raise ConfigError(f"{name} must be {allowed.words}; got {value!r}.")
