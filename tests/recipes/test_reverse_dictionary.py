"""The words of nearest definitions, and how often the right one is among them."""

import pyarrow as pa
import pytest

from widemax.recipes.reverse_dictionary import TOPS, Neighbors, recalls, words_of

PAIRS = [
    ("a small domestic cat", "kitten"),
    ("a young cat", "kitten"),
    ("a small fast horse", "pony"),
    ("a large body of water", "sea"),
]


def test_the_words_of_the_nearest_definitions():
    neighbors = Neighbors(*zip(*PAIRS, strict=True))
    assert neighbors.words(["young cat", "body of water"], k=2) == [["kitten", "pony"], ["sea", "kitten"]]
    assert neighbors.words(["horse"], k=9)[0][0] == "pony"


def test_definitions_are_compared_by_their_words():
    texts = pa.chunked_array([["Showing great reverence for God; pious.", "(übel) 3-fold"]])
    assert words_of(texts).to_pylist() == ["showing great reverence for god pious", "übel 3 fold"]


def test_recall_counts_the_words_found_by_then():
    found = recalls([["a", "b"], ["c", "a"], []], ["b", "c", "a"])
    assert len(found) == TOPS[-1]
    assert found[:3].tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
