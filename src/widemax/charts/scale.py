"""Values to pixels, round numbers for axes, and numbers in few characters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map from [low, high] to the pixels from start to end."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, values: Any) -> NDArray[Any]:
        """Pixels; NaN for a value that is not finite, or that a logarithm cannot take."""
        values_N, low, high = np.asarray(values, np.float64), self.low, self.high
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.is_log:
                values_N, low, high = np.log10(values_N), math.log10(low), math.log10(high)
            pixels_N = self.start + (values_N - low) / (high - low) * (self.end - self.start)
        return np.where(np.isfinite(pixels_N), pixels_N, np.nan)


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that enclose [low, high].

    Example:
        >>> ticks(0.0, 0.93)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        high = low + (abs(low) or 1.0)
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    # Rounding the quotients first keeps 0.6000000001 from opening one more interval.
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(round(low / step, 9)), math.ceil(round(high / step, 9))
        if last - first + 1 <= most:
            break
    decimals = max(0, -math.floor(math.log10(step)))
    return [round(i * step, decimals) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Powers of ten in [low, high], every so many; with fewer than two, 1, 2 and 5 times them.

    Example:
        >>> log_ticks(0.001, 2.0), log_ticks(2.0, 30.0)
        ([0.001, 0.01, 0.1, 1.0], [2.0, 5.0, 10.0, 20.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [float(f"1e{power}") for power in powers if low <= float(f"1e{power}") <= high]
    if len(inside) >= 2:
        return inside[:: math.ceil(len(inside) / most)]
    return [
        value
        for power in powers
        for value in (float(f"{factor}e{power}") for factor in (1, 2, 5))
        if low <= value <= high
    ]


def tick_labels(values: Sequence[float], *, is_log: bool = False) -> dict[float, str]:
    """Each tick with just the decimals that the axis needs."""
    if is_log and any(value < 1e-3 or value >= 1e5 for value in values):
        return {value: _power(value) for value in values}
    if is_log or len(values) < 2:
        return {value: f"{value:g}" for value in values}
    step = values[1] - values[0]
    if step >= 1000:
        return {value: compact(value).replace("-", "−") for value in values}
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return {value: f"{value:,.{decimals}f}".replace("-", "−") for value in values}


def _power(value: float) -> str:
    power = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10.0**power)
    return (f"{factor}·" if factor > 1 else "") + f"10{str(power).translate(_SUPERSCRIPTS)}"


def compact(number: float) -> str:
    """A count in at most four characters or so.

    Example:
        >>> [compact(n) for n in (7, 950, 1200, 48_000, 3_400_000)]
        ['7', '950', '1.2k', '48k', '3.4M']
    """
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        scaled = number / size
        # 999,999 is 1M, not 1000k.
        if abs(scaled) >= 0.9995:
            return f"{scaled:.{int(abs(scaled) < 9.95)}f}".removesuffix(".0") + suffix
    return f"{number:.0f}"


def percent(share: float, *, decimals: int = 0) -> str:
    """A share in percent."""
    return f"{100 * share:.{decimals}f}%"
