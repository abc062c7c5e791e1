"""Transition systems against all trees of few words, and a plain parser."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.parsing.transitions import NONE, ArcHybrid, States, transition_systems

SYSTEMS = transition_systems.names()


def is_tree(heads):
    """Whether every word reaches the root n, which has one dependent."""
    n = len(heads)
    for word in range(n):
        steps = 0
        while word != n and steps <= n:
            word, steps = heads[word], steps + 1
        if word != n:
            return False
    return list(heads).count(n) == 1


def is_projective(heads):
    """No two arcs cross, the root standing after the last word."""
    arcs = [sorted(arc) for arc in enumerate(heads)]
    return not any(a < c < b < d for a, b in arcs for c, d in arcs)


@cache
def projective_trees(n):
    return [heads for heads in product(range(n + 1), repeat=n) if is_tree(heads) and is_projective(heads)]


def state_of(n, stack, front, heads):
    states = States.start(np.array([n]))
    states.front_B[0], states.depth_B[0] = front, len(stack)
    states.stack_BN[0, : len(stack)] = stack
    states.heads_BN[0] = heads
    return states


def key_of(states, row=0):
    depth = states.depth_B[row]
    n = states.lengths_B[row]
    return (
        tuple(states.stack_BN[row, :depth].tolist()),
        int(states.front_B[row]),
        tuple(states.heads_BN[row, :n].tolist()),
    )


@cache
def reachable(name, n):
    """Every state of n words, with the trees that can come of it and the states after each move."""
    system = transition_systems[name]()
    trees, after = {}, {}

    def visit(key):
        if key in trees:
            return trees[key]
        stack, front, heads = key
        if front == n and not stack:
            trees[key] = frozenset([heads])
            after[key] = {}
            return trees[key]
        states = state_of(n, *key)
        after[key] = {}
        for move in np.flatnonzero(system.legal(states)[0]):
            following = state_of(n, *key)
            system.apply(following, np.array([move]), np.array([0]))
            after[key][int(move)] = key_of(following)
        assert after[key], f"no move is legal in {key}"
        trees[key] = frozenset().union(*(visit(to) for to in after[key].values()))
        return trees[key]

    visit(((), 0, (NONE,) * n))
    return trees, after


def right_arcs(trees, golds):
    """The most arcs that one of the trees shares with each right tree."""
    return (np.array(sorted(trees))[:, None] == golds[None]).sum(2).max(0)


@cache
def hybrid_states(n):
    """All states with all right trees, and what each move loses by looking at all trees; −1 where illegal."""
    trees, after = reachable("arc_hybrid", n)
    golds = np.array(projective_trees(n))
    keys = [key for key in after if after[key]]
    costs = np.full((len(keys), len(golds), 3), -1)
    best = {key: right_arcs(trees[key], golds) for key in after}
    for at, key in enumerate(keys):
        for move, to in after[key].items():
            costs[at, :, move] = best[key] - best[to]
    each = [state_of(n, *key) for key in keys for _ in golds]
    fields = States.__dataclass_fields__
    states = States(*(np.concatenate([getattr(one, name) for one in each]) for name in fields))
    return states, np.tile(golds, (len(keys), 1)), costs.reshape(-1, 3)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 2), (3, 7), (4, 30), (5, 143)])
def test_systems_build_every_projective_tree_with_one_root_and_no_other(name, n, count):
    trees, _ = reachable(name, n)
    start = ((), 0, (NONE,) * n)
    assert trees[start] == frozenset(projective_trees(n))
    assert len(trees[start]) == count


def textbook_costs(states, heads):
    """The published costs, which forget that there is one root."""
    rows = np.arange(len(states))
    costs = ArcHybrid().costs(states, heads)
    s0, n, b = states.top(0), states.lengths_B, states.front_B
    to_root = (s0 != NONE) & (heads[rows, s0] == n) & (b < n)
    costs[:, 1] += to_root & (states.depth_B > 1)
    costs[:, 2] += to_root
    last = np.minimum(b, n - 1)
    costs[:, 0] -= (b < n) & (heads[rows, last] == n) & (states.depth_B > 0)
    return costs


def share_wrong(costs_of, n):
    states, golds, truth = hybrid_states(n)
    return ((costs_of(states, golds) != truth) & (truth >= 0)).any(1).mean()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_costs_of_the_hybrid_are_those_of_all_trees(n):
    assert share_wrong(ArcHybrid().costs, n) == 0


def test_costs_that_forget_the_single_root_are_wrong():
    assert share_wrong(textbook_costs, 5) > 0.05


@pytest.mark.parametrize("name", SYSTEMS)
def test_right_moves_lose_nothing_and_lead_to_the_right_tree(name):
    system = transition_systems[name]()
    for n in (1, 2, 3, 4, 5):
        golds = np.array(projective_trees(n))
        states = States.start(np.full(len(golds), n))
        for _ in range(2 * n):
            right = system.right(states, golds)
            assert right.any(1).all()
            assert not (right & ~system.legal(states)).any()
            system.apply(states, right.argmax(1), np.zeros(len(golds), np.int64))
        np.testing.assert_array_equal(states.heads_BN, golds)
        assert not states.depth_B.any()


@st.composite
def lengths_and_seed(draw):
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    return np.array(sorted(lengths, reverse=True)), draw(st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("name", SYSTEMS)
@given(case=lengths_and_seed())
def test_any_scores_give_projective_trees_with_one_root_in_two_steps_a_word(name, case):
    lengths, seed = case
    random = np.random.default_rng(seed)
    system = transition_systems[name]()
    states = States.start(lengths)
    for step in range(2 * lengths[0]):
        active = states.of(slice(np.searchsorted(-lengths, -step / 2)))
        scores = random.random((len(active), len(system.moves)))
        scores[~system.legal(active)] = -1
        moves = scores.argmax(1)
        one_by_one = [active.of(np.array([row])) for row in range(len(active))]
        for row, one in enumerate(one_by_one):
            system.apply(one, moves[row : row + 1], np.array([step]))
        system.apply(active, moves, np.full(len(active), step))
        assert [key_of(one) for one in one_by_one] == [key_of(active, row) for row in range(len(active))]
    for row, n in enumerate(lengths):
        heads = states.heads_BN[row, :n].tolist()
        assert is_tree(heads)
        assert is_projective(heads)
        assert (states.heads_BN[row, n:] == NONE).all()
