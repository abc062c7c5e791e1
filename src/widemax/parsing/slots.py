"""Which words of a state an action is chosen by. Shapes: B states, N words, S slots."""

import re
from collections.abc import Sequence

import numpy as np

from widemax.errors import OptionError
from widemax.parsing.transitions.base import NONE, Ints, States

SLOT = re.compile(r"([sb])([0-9])((?:[lr][12]?)*)")
TOP = ("s2", "s1", "s0", "b0")
"""Three words of the stack and the first of the buffer: enough where vectors know their sentence."""

CHEN_MANNING = (
    *("s0", "s1", "s2", "b0", "b1", "b2"),
    *("s0l", "s0r", "s0l2", "s0r2", "s1l", "s1r", "s1l2", "s1r2"),
    *("s0ll", "s0rr", "s1ll", "s1rr"),
)
"""The 18 words of Chen and Manning, "A Fast and Accurate Dependency Parser using Neural Networks" (EMNLP
2014), §3.1, for vectors that know nothing of their sentence."""


class Slots:
    """Words by their place: ``s1`` second on the stack, ``b0`` first in the buffer, ``s0l`` the leftmost
    dependent of s0 so far, ``s0r2`` its second from the right, ``s0ll`` the leftmost one's leftmost.

    Raises:
        OptionError: a name that is none of these, or none at all.
    """

    def __init__(self, names: Sequence[str]) -> None:
        wrong = [name for name in names if not SLOT.fullmatch(name)]
        if wrong or not names:
            raise OptionError(
                f"slots must be names such as s0, b1, s0l or s1r2; got {wrong[0] if wrong else 'none'!r}."
            )
        self.names = tuple(names)
        self._paths = [
            (found[1], int(found[2]), re.findall("[lr][12]?", found[3]))
            for found in map(SLOT.fullmatch, names)
            if found
        ]
        self.has_dependents = any(steps for _, _, steps in self._paths)

    def __len__(self) -> int:
        return len(self.names)

    def words(self, states: States) -> Ints:
        """[B, S] the words in the slots; the root's number, or ``NONE`` where there is none."""
        columns = []
        for place, at, steps in self._paths:
            word_B = states.top(at) if place == "s" else _in_buffer(states, at)
            for step in steps:
                word_B = _dependent(states, word_B, step)
            columns.append(word_B)
        return np.stack(columns, axis=1)


def _in_buffer(states: States, at: int) -> Ints:
    word_B: Ints = states.front_B + at
    return np.where(word_B > states.lengths_B, NONE, word_B)


def _dependent(states: States, word_B: Ints, step: str) -> Ints:
    """The first or second dependent so far, from the left or right, on that side of the word."""
    N = states.heads_BN.shape[1]
    is_one_BN = (states.heads_BN == word_B[:, None]) & (word_B != NONE)[:, None]
    places_BN = np.arange(N)
    if step[0] == "l":
        is_one_BN &= places_BN < word_B[:, None]
        place_BN = np.where(is_one_BN, places_BN, N)
    else:
        is_one_BN &= places_BN > word_B[:, None]
        place_BN = np.where(is_one_BN, -places_BN, N)
    nth = int(step[1:] or 1) - 1
    if nth >= N:
        return np.full(len(states), NONE)
    place_B: Ints = np.partition(place_BN, nth, axis=1)[:, nth]
    return np.where(place_B == N, NONE, np.abs(place_B))
