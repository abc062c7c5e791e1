"""Every registered recipe: what it declares, and a quick run of it."""

import json
import struct
import zlib
from pathlib import Path

import pytest

from widemax.data import at_hand, sets
from widemax.recipes import recipes, run_recipe


def pixels(path: Path) -> bytes:
    """The inflated image data of a PNG."""
    data, place, body = path.read_bytes(), 8, b""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            body += data[place + 8 : place + 8 + size]
        place += size + 12
    return zlib.decompress(body)


def is_blank(path: Path) -> bool:
    """Whether a PNG has hardly more than one color."""
    return len(set(pixels(path))) < 10


def test_a_blank_picture_is_found(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + b"\xff" * 16 for _ in range(16))
    (tmp_path / "white.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert is_blank(tmp_path / "white.png")


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_says_what_it_is(name):
    recipe = recipes[name]
    assert recipe.name == name
    assert recipe.title
    assert recipe.description.endswith(".")
    assert recipe.full_time.split()[1] in ("s", "min")
    assert set(recipe.data) <= set(sets)
    assert recipe.known
    for known in recipe.known.values():
        assert known.source
        assert known.text


SYNTHETIC = [name for name in recipes if not recipes[name].data]
REAL = [pytest.param(name, marks=pytest.mark.slow) for name in recipes if recipes[name].data]


@pytest.mark.parametrize("name", [*SYNTHETIC, *REAL])
def test_a_quick_run(name, tmp_path, request):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    if recipes[name].data:
        request.getfixturevalue("widemax_data")
    absent = [data_set for data_set in recipes[name].data if not at_hand(data_set)]
    if absent:
        pytest.skip(f"data not at hand: {', '.join(absent)}")

    facts = []
    # Runs on real data are long; that their parts repeat is tested where those are.
    for folder in (tmp_path / "one",) if recipes[name].data else (tmp_path / "one", tmp_path / "two"):
        outcome = run_recipe(name, folder=folder, quick=True, seed=0)
        facts.append(json.loads((folder / "results.json").read_text("utf-8")))
        assert outcome.results.pictures
        for picture in outcome.results.pictures:
            assert not is_blank(picture.path), picture.path
            assert picture.title
            assert picture.caption
            assert picture.alt
    lines = facts[0]["lines"]
    assert facts[0]["quick"]
    assert lines
    for line in lines:
        assert line["what"]
        assert line["known"]
        assert line["source"]
        assert line["obtained"]
    assert lines == facts[-1]["lines"]
    assert facts[0]["findings"] == facts[-1]["findings"]
