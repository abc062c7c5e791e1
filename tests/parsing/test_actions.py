"""Moves with relations."""

import numpy as np
import pytest

from widemax.parsing.actions import Actions
from widemax.parsing.transitions import States, transition_systems

RELATIONS = ("det", "obj", "root")
OF_ROOT = np.array([False, False, True])


def actions_of(name):
    return Actions(transition_systems[name](), RELATIONS, OF_ROOT, ~OF_ROOT)


@pytest.mark.parametrize("name", transition_systems.names())
def test_the_root_alone_has_the_relations_of_the_root(name):
    actions = actions_of(name)
    random = np.random.default_rng(0)
    states = States.start(np.array([8] * 40 + [1]))
    for step in range(16):
        active = states.of(slice(0, int(np.count_nonzero(2 * states.lengths_B > step))))
        legal = actions.legal(active)
        assert legal.any(1).all()
        scores = np.where(legal, random.random((len(active), len(actions))), -1)
        actions.apply(active, scores.argmax(1))
    is_root = states.heads_BN == states.lengths_B[:, None]
    assert ((states.relations_BN == 2) == is_root).all()


@pytest.mark.parametrize("name", transition_systems.names())
def test_right_actions_lead_to_the_right_tree_with_its_relations(name):
    actions = actions_of(name)
    heads, relations = np.array([[1, 4, 3, 1]]), np.array([[0, 2, 0, 1]])
    states = States.start(np.array([4]))
    for _ in range(8):
        legal = actions.legal(states)
        right = actions.right(states, heads, relations, legal)
        assert right.sum() >= 1
        assert not (right & ~legal).any()
        actions.apply(states, right.argmax(1))
    np.testing.assert_array_equal(states.heads_BN, heads)
    np.testing.assert_array_equal(states.relations_BN, relations)


def test_after_a_mistake_any_relation_of_a_wrong_arc_is_right():
    actions = actions_of("arc_hybrid")
    # The root is word 1, and word 0 its dependent; but word 1 was put on the stack, so word 0 lost its head.
    states = States.start(np.array([2]))
    for _ in range(2):
        actions.apply(states, np.array([0]))
    heads, relations = np.array([[1, 2]]), np.array([[0, 2]])
    right = actions.right(states, heads, relations, actions.legal(states))
    right_moves = set(actions.move_A[right[0]].tolist())
    assert right_moves == {2}
    assert actions.relation_A[right[0]].tolist() == [0, 1]


def test_sentences_of_one_word_leave_every_relation_to_others():
    actions = Actions(transition_systems["arc_hybrid"](), ("root",), np.array([True]), np.array([False]))
    states = States.start(np.array([3]))
    for _ in range(6):
        actions.apply(states, actions.legal(states).argmax(1))
    assert (states.relations_BN == 0).all()
