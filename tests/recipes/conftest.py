"""A recipe of the tests, which draws without matplotlib."""

import struct
import zlib
from pathlib import Path

import pytest
import torch

from widemax.recipes import Known, Recipe, Results, figures
from widemax.recipes import run as running


def write_png(path: Path, rows: bytes) -> None:
    """A gray PNG of 8 by 8 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + rows[8 * row : 8 * row + 8] for row in range(8))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


class Coin(Recipe):
    """Throws a coin."""

    name = "coin"
    title = "A coin <thrown> often"
    description = "A coin is thrown, and heads are counted."
    full_time = "1 s"
    known = {  # noqa: RUF012 - a test changes nothing
        "share of heads": Known.near(0.5, within=0.1, digits=3, source="Bernoulli, Ars Conjectandi, 1713"),
        "logarithm of 0": Known.printed(0, digits=1, source="nobody"),
    }

    def run(self, *, folder: Path, quick: bool, seed: int) -> Results:
        results = Results(self.known, folder)
        results.obtain("share of heads", torch.rand(100 if quick else 10_000).round().mean())
        results.obtain("logarithm of 0", torch.zeros(()).log())
        results.draw(None, "coin", title="Coin", caption="Heads & tails.", alt='A "coin".')
        results.find("Heads come up about as often as tails.")
        return results


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a registered recipe that needs no matplotlib."""
    monkeypatch.setattr(figures, "check_installed", lambda: None)
    monkeypatch.setattr(figures, "save", lambda figure, path: write_png(path, bytes(range(64))))
    monkeypatch.setattr(running, "recipes", {"coin": Coin})
    return "coin"
