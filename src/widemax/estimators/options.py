"""Ranges of the options of estimators, checked when fitting, as scikit-learn wants it."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

from widemax.errors import ConfigError


class Range(NamedTuple):
    """Values that an option may have, and the words for them."""

    kind: type
    inside: Callable[[Any], bool]
    words: str


ABOVE_0 = Range(Real, lambda value: value > 0, "a number above 0")
AT_LEAST_0 = Range(Real, lambda value: value >= 0, "a number of at least 0")
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
