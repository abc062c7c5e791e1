"""Words, pixels, and drawings that stand alone."""

import io
from base64 import b64decode
from xml.etree import ElementTree

import numpy as np
import pytest

from widemax.charts.drawing import Drawing, picture, text

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (3, 5, 4)])
def test_a_picture_has_the_pixels_it_was_given(shape):
    image = pytest.importorskip("PIL.Image", reason="another reader of PNG")
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    _, encoded = ElementTree.fromstring(picture(pixels, 0, 0, 10, 6)).get("href").split(",")
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(b64decode(encoded)))), pixels)


def test_words_are_escaped_and_broken_into_lines():
    element = ElementTree.fromstring(text(1, 2, "<b>\n&", anchor="end", css="ink", turn=-45))
    assert (element.text, element[0].text) == ("<b>", "&")
    assert (element.get("text-anchor"), element.get("class")) == ("end", "ink")
    assert element.get("transform") == "rotate(-45 1.0 2.0)"


def test_a_file_stands_alone_and_says_what_it_shows():
    drawing = Drawing(text(0, 10, "one"), 200, 100)
    root = ElementTree.fromstring(drawing.file('A "curve" & more'))
    assert root.tag == f"{SVG}svg"
    assert (root.get("viewBox"), root.get("aria-label")) == ("-12 -12 224 124", 'A "curve" & more')
    style = root.find(f"{SVG}style").text
    assert "prefers-color-scheme: dark" in style
    assert "http" not in style
    assert "<style>" not in drawing.inline("x")
