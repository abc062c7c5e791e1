"""Every registered recipe: what it declares, and a quick run of it."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from widemax.data import at_hand, sets
from widemax.recipes import recipes, run_recipe


def marks(path: Path) -> int:
    """How many curves, bars, dots and images an SVG has, and a table's hundred numbers as one."""
    tags = [element.tag.rpartition("}")[2] for element in ElementTree.parse(path).getroot().iter()]
    return sum(tag in ("path", "rect", "image") for tag in tags) + tags.count("text") // 100


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_says_what_it_is(name):
    recipe = recipes[name]
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
LONGER = ("attention-facts", "youtube-two-stage")
REPEATED = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONGER)) for name in SYNTHETIC]
"""Runs on real data are long; that their parts repeat is tested where those are."""


# The quick run of attention-facts is made by quick tests of its own.
RUN = [pytest.param(name, marks=[pytest.mark.slow] * (name == "attention-facts")) for name in SYNTHETIC]


@pytest.mark.parametrize("name", [*RUN, *REAL])
def test_a_quick_run(name, tmp_path, request):
    if recipes[name].data:
        request.getfixturevalue("widemax_data")
    absent = [data_set for data_set in recipes[name].data if not at_hand(data_set)]
    if absent:
        pytest.skip(f"data not at hand: {', '.join(absent)}")

    outcome = run_recipe(name, folder=tmp_path / "one", quick=True, seed=0)
    facts = json.loads((tmp_path / "one" / "results.json").read_text("utf-8"))
    assert outcome.results.pictures
    for picture in outcome.results.pictures:
        # A table of cells is two images: itself and its bar of colors.
        assert marks(picture.path) >= 2, picture.path
        assert picture.title
        assert picture.caption
        assert picture.alt
    assert facts["quick"]
    assert facts["lines"]
    for line in facts["lines"]:
        assert line["what"]
        assert line["known"]
        assert line["source"]
        assert line["obtained"]


@pytest.mark.parametrize("name", REPEATED)
def test_the_same_seed_gives_the_same_results(name, tmp_path):
    one, other = (
        run_recipe(name, folder=tmp_path / folder, quick=True, seed=0).facts for folder in ("one", "other")
    )
    assert one["lines"] == other["lines"]
    assert one["findings"] == other["findings"]
