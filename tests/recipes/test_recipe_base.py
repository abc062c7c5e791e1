"""What a run gathers."""

import re

import pytest

from widemax.charts import Drawing
from widemax.errors import UsageError
from widemax.recipes import Known, Results

KNOWN = {"accuracy": Known.at_least(0.9, digits=2, source="a textbook")}


def test_a_line_has_the_known_and_the_obtained(tmp_path):
    results = Results(KNOWN, tmp_path)
    results.obtain("accuracy", 0.95)
    results.obtain("accuracy", 0.85)
    results.obtain("speed", 3, known=Known.at_most(2, digits=0, source="a peer in this run"))
    assert [(line.what, line.obtained, line.reached) for line in results.lines] == [
        ("accuracy", "0.95", True),
        ("accuracy", "0.85", False),
        ("speed", "3", False),
    ]
    assert results.lines[2].known.source == "a peer in this run"


def test_nothing_is_obtained_beside_nothing(tmp_path):
    with pytest.raises(
        UsageError, match=re.escape("nothing is known of 'acuracy'; did you mean 'accuracy'?")
    ):
        Results(KNOWN, tmp_path).obtain("acuracy", 0.9)


def test_a_picture_is_a_file_in_the_folder(tmp_path):
    drawing = Drawing("<circle r='4'/>", 8, 8)
    results = Results(KNOWN, tmp_path)
    results.draw(drawing, "curve", title="Curve", caption="How to read it.", alt="A rising curve.")
    (picture,) = results.pictures
    assert picture.path == tmp_path / "curve.svg"
    assert picture.path.read_text("utf-8") == drawing.file("A rising curve.")
    assert (picture.title, picture.caption, picture.alt) == ("Curve", "How to read it.", "A rising curve.")
