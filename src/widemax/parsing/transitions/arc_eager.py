"""Arc-eager, which makes every arc as soon as it can. Shapes: B sentences, N words, M moves."""

from typing import ClassVar, final

import numpy as np

from widemax.parsing.transitions.base import (
    NONE,
    Bools,
    Ints,
    Move,
    States,
    TransitionSystem,
    filled,
    transition_systems,
)


@final
@transition_systems.register("arc_eager")
class ArcEager(TransitionSystem):
    """Arcs between stack and buffer, made early; a word may have its head before its dependents.

    SHIFT moves the buffer's first word b to the stack. LEFT makes s0, which has no head yet, a dependent of b
    and takes it away; RIGHT makes b a dependent of s0 and moves it to the stack; REDUCE takes away an s0 that
    has a head. The last word is moved only where one word is then without a head, which becomes the root.

    Use: to compare, and to repeat published results. Its oracle knows the way to the right tree only.

    Source: Nivre, "Algorithms for Deterministic Incremental Dependency Parsing" (Computational Linguistics
    34(4), 2008), §4.2, with one root as a condition of its moves.
    """

    moves: ClassVar[tuple[Move, ...]] = (
        Move("shift", "push", False),
        Move("left", "pop", True),
        Move("right", "push", True),
        Move("reduce", "pop", False),
    )
    is_dynamic: ClassVar[bool] = False

    def legal(self, states: States) -> Bools:
        depth_B, at_root_B = states.depth_B, states.at_root
        is_last_B = states.front_B == states.lengths_B - 1
        headless_B = (states.on_stack() & (states.heads_BN == NONE)).sum(1)
        has_head_B = _has_head(states)
        # What stands at the bottom of a stack has no head.
        left_B = (depth_B > 0) & ~has_head_B & (~at_root_B | (depth_B == 1))
        right_B = ~at_root_B & (depth_B > 0) & (~is_last_B | (headless_B == 1))
        shift_B = ~at_root_B & (~is_last_B | (depth_B == 0))
        return filled(states.at_root, shift_B, left_B, right_B, has_head_B)

    def arcs(self, states: States) -> tuple[Ints, Ints]:
        s0_B, b_B = states.top(0), states.front_B
        word_B = np.where(states.at_root, NONE, b_B)
        return filled(b_B, NONE, b_B, s0_B, NONE), filled(b_B, NONE, s0_B, word_B, NONE)

    def right(self, states: States, heads: Ints) -> Bools:
        rows = np.arange(len(states))
        s0_B, b_B = states.top(0), states.front_B
        padded = np.concatenate([heads, np.full((len(heads), 1), NONE)], axis=1)
        has_head_B = _has_head(states)
        left_B = (s0_B != NONE) & ~has_head_B & (heads[rows, s0_B] == b_B)
        right_B = (s0_B != NONE) & ~states.at_root & (padded[rows, b_B] == s0_B)
        waits_B = ((heads == s0_B[:, None]) & states.in_buffer()).any(1)
        reduce_B = has_head_B & ~waits_B & ~right_B
        shift_B = ~(left_B | right_B | reduce_B)
        right_BM: Bools = filled(states.at_root, shift_B, left_B, right_B, reduce_B)
        return right_BM & self.legal(states)


def _has_head(states: States) -> Bools:
    """[B] whether the top word of each stack has a head."""
    s0_B = states.top(0)
    head_B = np.where(s0_B == NONE, NONE, states.heads_BN[np.arange(len(states)), s0_B])
    has_head_B: Bools = head_B != NONE
    return has_head_B
