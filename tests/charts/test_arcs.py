"""Arcs over words."""

import re
from itertools import combinations
from xml.etree import ElementTree

from widemax.charts import arcs

WORDS = ["A", "hearing", "is", "scheduled", "on", "it", "today", "<&>"]
HEADS = [2, 4, 4, 0, 6, 2, 4, 4]
NAMES = ["det", "nsubj", "aux", "root", "case", "nmod", "obl", "punct"]


def heights(drawing):
    """How high each arc stands, in pixels from the top, as it was drawn."""
    paths = re.findall(r'class="line c0" d="([^"]+)"', drawing.body)
    return [float(re.findall(r"V([0-9.]+)", path)[0]) for path in paths]


def test_all_words_and_names_are_there_and_the_file_is_sound():
    drawing = arcs(WORDS, HEADS, NAMES)
    root = ElementTree.fromstring(drawing.file("a tree"))
    told = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sorted(told) == sorted(WORDS + NAMES)


def test_arcs_that_overlap_stand_on_different_levels():
    height = heights(arcs(WORDS, HEADS, NAMES))
    spans = [sorted((word, head - 1)) for word, head in enumerate(HEADS)]
    for (one, a), (other, b) in combinations(list(enumerate(spans)), 2):
        if HEADS[one] and HEADS[other] and a[0] < b[1] and b[0] < a[1]:
            assert height[one] != height[other]


def test_one_word_has_an_arrow_from_above():
    assert arcs(["Hi"], [0], ["root"]).body.count("<path") == 2
