"""Numbers as colors. Any shape of numbers gives one dimension more, of red, green and blue."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIVERGING = ("2d004b", "8073ac", "d8daeb", "f7f7f7", "fee0b6", "e08214", "7f3b08")


def diverging(shares: Any) -> NDArray[Any]:
    """From purple at −1 by white at 0 to orange at 1, in bytes.

    Source: Brewer, colorbrewer2.org, PuOr.
    """
    anchors_A3 = np.array([rgb(anchor) for anchor in _DIVERGING])
    places_A = np.linspace(-1, 1, len(anchors_A3))
    channels = [np.interp(shares, places_A, anchors_A3[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def rgb(color: str) -> tuple[int, int, int]:
    """The bytes of a color such as "#3f90da"."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
