"""The words of a state that an action is chosen by."""

import numpy as np
import pytest

from widemax.errors import OptionError
from widemax.parsing.slots import CHEN_MANNING, Slots
from widemax.parsing.transitions import NONE, States, transition_systems


def plain_word(states, row, name):
    """The same from lists, for one slot of one state."""
    n = int(states.lengths_B[row])
    stack = states.stack_BN[row, : states.depth_B[row]].tolist()
    heads = states.heads_BN[row, :n].tolist()
    at = int(name[1])
    word = stack[-1 - at] if name[0] == "s" and at < len(stack) else None
    if name[0] == "b":
        buffer = [*range(states.front_B[row], n + 1)]
        word = buffer[at] if at < len(buffer) else None
    steps = name[2:].replace("l2", "L").replace("r2", "R").replace("1", "")
    for step in steps:
        left = [x for x in range(n) if heads[x] == word and word is not None and x < word]
        right = [x for x in range(n) if heads[x] == word and word is not None and x > word]
        ordered = left if step in "lL" else right[::-1]
        nth = step in "LR"
        word = ordered[nth] if len(ordered) > nth else None
    return NONE if word is None else word


@pytest.mark.parametrize("name", transition_systems.names())
def test_slots_hold_the_words_of_a_plain_state(name):
    system, slots = transition_systems[name](), Slots([*CHEN_MANNING, "s0r1", "b0l", "s2ll2"])
    random = np.random.default_rng(0)
    states = States.start(np.array([9, 6, 2]))
    for step in range(18):
        active = states.of(slice(0, int(np.count_nonzero(2 * states.lengths_B > step))))
        words = slots.words(active)
        for row in range(len(active)):
            assert words[row].tolist() == [plain_word(active, row, each) for each in slots.names]
        scores = np.where(system.legal(active), random.random((len(active), len(system.moves))), -1)
        system.apply(active, scores.argmax(1), np.zeros(len(active), np.int64))


def test_only_slots_of_dependents_have_relations():
    assert not Slots(["s0", "b1"]).has_dependents
    assert Slots(["s0", "b0l"]).has_dependents


@pytest.mark.parametrize("names", [[], ["s"], ["s0", "q1"], ["s0l3"], ["S0"]])
def test_other_names_are_refused(names):
    with pytest.raises(OptionError, match="slots must be names such as s0"):
        Slots(names)
