"""SVG as text: words, pixels, and whole drawings for pages and files."""

import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widemax.charts.style import FILE_STYLE

_MARGIN = 12
LINE = 15
"""Pixels from one line of words to the next."""


@dataclass(frozen=True)
class Drawing:
    """The inside of an SVG and its size in pixels."""

    body: str
    width: float
    height: float

    def inline(self, label: str) -> str:
        """For a page that has ``STYLE``; it scales with its column.

        Args:
            label: what there is to see, in words.
        """
        return self._svg(label, "", "", margin=0)

    def file(self, label: str) -> str:
        """A file of its own, light or dark as the reader's screen is."""
        space = ' xmlns="http://www.w3.org/2000/svg"'
        return self._svg(label, space, f"<style>{FILE_STYLE}</style>", margin=_MARGIN) + "\n"

    def _svg(self, label: str, space: str, style: str, *, margin: int) -> str:
        width, height = self.width + 2 * margin, self.height + 2 * margin
        return (
            f'<svg{space} width="{width:.0f}" viewBox="{-margin} {-margin} {width:.0f} {height:.0f}" '
            f'role="img" aria-label="{escape(label)}">{style}{self.body}</svg>'
        )


def text(x: float, y: float, words: str, *, anchor: str = "start", css: str = "", turn: float = 0) -> str:
    """Words at a pixel, one line below the other; turned by so many degrees around it."""
    lines = words.split("\n")
    inside = escape(lines[0]) + "".join(
        f'<tspan x="{x:.1f}" dy="{LINE}">{escape(line)}</tspan>' for line in lines[1:]
    )
    css = f' class="{css}"' if css else ""
    turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}{turned}>{inside}</text>'


def text_width(words: str) -> float:
    """About the pixels that words take, a little too many."""
    return 6.8 * max(map(len, words.split("\n")))


def title(words: str) -> str:
    """What is shown where the mouse rests."""
    return f"<title>{escape(words)}</title>"


def picture(pixels: NDArray[Any], x: float, y: float, width: float, height: float) -> str:
    """Pixels, [H, W] gray or [H, W, 3 or 4] colors in bytes, as a rectangle of the drawing."""
    encoded = b64encode(_png(pixels)).decode()
    return (
        f'<image x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{encoded}"/>'
    )


def _png(pixels: NDArray[Any]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = pixels.shape[:2]
    color_type = {2: 0, 3: 2, 4: 6}[pixels.ndim if pixels.ndim == 2 else pixels.shape[2]]
    # Each row begins with a byte that says it is not filtered.
    rows = np.pad(np.ascontiguousarray(pixels, np.uint8).reshape(height, -1), ((0, 0), (1, 0)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
