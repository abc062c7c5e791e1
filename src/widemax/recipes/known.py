"""What is known before a recipe runs: the values that agree with it, and where it is written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Known:
    """A known result, as intervals that the obtained numbers must lie in.

    Args:
        text: how it is printed, such as "≥ 0.95".
        source: where it is written, with the place in it.
        low: least number that agrees, one for each obtained number.
        high: largest number that agrees, likewise.
        digits: decimals that obtained numbers are printed with; None prints yes for 1 and no for 0.

    Example:
        >>> known = Known.printed(0.09, 0.2447, 0.6652, digits=4, source="the definition of softmax")
        >>> known.text, known.admits([0.09003, 0.24473, 0.66524]), known.admits([0.1, 0.2, 0.7])
        ('0.0900, 0.2447, 0.6652', True, False)
    """

    text: str
    source: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    digits: int | None

    @classmethod
    def printed(cls, *values: float, digits: int, source: str) -> "Known":
        """Numbers that must agree in every digit that the source prints."""
        # A half of the last digit, and a little for the rounding of the bounds themselves.
        known = cls.near(*values, within=0.5000001 * 10.0**-digits, digits=digits, source=source)
        return replace(known, text=_shown(values, digits))

    @classmethod
    def near(cls, *values: float, within: float, digits: int, source: str) -> "Known":
        """Numbers that must agree up to a stated distance."""
        low, high = (tuple(value + sign * within for value in values) for sign in (-1, 1))
        return cls(f"{_shown(values, digits)} ± {within:g}", source, low, high, digits)

    @classmethod
    def at_least(cls, value: float, *, digits: int, source: str) -> "Known":
        """A number that must be reached."""
        return cls(f"≥ {value:.{digits}f}", source, (value,), (math.inf,), digits)

    @classmethod
    def at_most(cls, value: float, *, within: float = 0.0, digits: int, source: str) -> "Known":
        """A number that must not be exceeded, or by no more than a stated distance."""
        text = f"≤ {value:.{digits}f}" + (f" + {within:g}" if within else "")
        return cls(text, source, (-math.inf,), (value + within,), digits)

    @classmethod
    def yes(cls, *, source: str) -> "Known":
        """A statement that must be true."""
        return cls("yes", source, (1.0,), (1.0,), None)

    @classmethod
    def no(cls, *, source: str) -> "Known":
        """A statement that must be false."""
        return cls("no", source, (0.0,), (0.0,), None)

    def admits(self, values: Sequence[float]) -> bool:
        """Whether every number agrees; NaN never does."""
        bounds = zip(self.low, values, self.high, strict=True)
        return all(low <= value <= high for low, value, high in bounds)

    def show(self, values: Sequence[float]) -> str:
        """Obtained numbers as this result is printed."""
        return _shown(values, self.digits)


def _shown(values: Sequence[float], digits: int | None) -> str:
    if digits is None:
        return ", ".join("yes" if value else "no" for value in values)
    # A minus before zeros would look like a difference; adding 0 takes it away.
    return ", ".join(f"{round(value, digits) + 0.0:.{digits}f}" for value in values)
