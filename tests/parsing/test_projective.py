"""Pseudo-projective trees: lifted, and restored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import ArgumentError
from widemax.parsing.projective import crossing, lift, restore


@st.composite
def trees(draw):
    n = draw(st.integers(1, 10))
    order = draw(st.permutations(range(n)))
    heads = [n] * n
    for place, word in enumerate(order[1:], start=1):
        heads[word] = order[draw(st.integers(0, place - 1))]
    return heads, [f"r{draw(st.integers(0, 2))}" for _ in range(n)]


def crosses(heads):
    arcs = [sorted(arc) for arc in enumerate(heads)]
    return any(a < c < b < d for a, b in arcs for c, d in arcs)


@given(tree=trees())
def test_a_tree_without_crossing_arcs_is_left_alone_and_others_are_lifted(tree):
    heads, relations = tree
    assert bool(crossing(heads)) == crosses(heads)
    lifted_heads, lifted_relations = lift(heads, relations)
    assert not crosses(lifted_heads)
    if not crosses(heads):
        assert (lifted_heads, lifted_relations) == tree
    # Every lifted word hangs above where it hung, and says so.
    for word, (old, new) in enumerate(zip(heads, lifted_heads, strict=True)):
        above = []
        while old != len(heads):
            above.append(old := heads[old])
        assert new == heads[word] or new in above
        assert (new != heads[word]) == ("↑" in lifted_relations[word])


def depths(heads):
    for word in range(len(heads)):
        steps = 0
        while word != len(heads):
            word, steps = heads[word], steps + 1
            assert steps <= len(heads), "a cycle"
        yield steps


@given(tree=trees(), seed=st.integers(0, 2**32 - 1))
def test_restoring_gives_a_tree_with_the_relations_there_were(tree, seed):
    heads, relations = tree
    restored, names = restore(*lift(heads, relations))
    assert names == relations
    assert list(depths(restored))
    assert restored.count(len(heads)) == 1
    # Relations from a scorer may name what is not there.
    random = np.random.default_rng(seed)
    made_up = [name + f"↑r{random.integers(4)}" * random.integers(2) for name in relations]
    restored, names = restore(heads, made_up)
    assert names == relations
    assert list(depths(restored))
    assert restored.count(len(heads)) == 1


def test_an_arc_over_a_gap_is_restored():
    # "A hearing is scheduled on it today": "on" depends on "hearing", over "is scheduled".
    heads = [1, 3, 3, 7, 5, 1, 3]
    relations = ["det", "nsubj", "aux", "root", "case", "nmod", "obl"]
    lifted = lift(heads, relations)
    assert lifted[0][5] == 3
    assert lifted[1][5] == "nmod↑nsubj"
    assert restore(*lifted) == (heads, relations)


@pytest.mark.parametrize(
    "heads", [[0, 1, 2], [1, 0], [2, 0, 5], [-1]]
)  # counted from 1, round, beyond, below
def test_heads_that_are_no_tree_are_refused(heads):
    for work in (lift, restore):
        with pytest.raises(ArgumentError, match="heads must be positions from 0"):
            work(heads, ["r"] * len(heads))
