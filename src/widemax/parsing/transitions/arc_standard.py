"""Arc-standard, the oldest system over a stack. Shapes: B sentences, N words, M moves."""

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
@transition_systems.register("arc_standard")
class ArcStandard(TransitionSystem):
    """Arcs between the two top words of the stack; a word has all its dependents before its head.

    SHIFT moves the buffer's first word to the stack. LEFT makes s1 a dependent of s0 and takes it away, RIGHT
    makes s0 a dependent of s1. The last word on the stack becomes the root by RIGHT.

    Use: for teaching, and to repeat published results. Its oracle knows the way to the right tree only.

    Source: Nivre, "Incrementality in Deterministic Dependency Parsing" (2004), §2.
    """

    moves: ClassVar[tuple[Move, ...]] = (
        Move("shift", "push", False),
        Move("left", "pop_second", True),
        Move("right", "pop", True),
    )
    is_dynamic: ClassVar[bool] = False

    def legal(self, states: States) -> Bools:
        depth_B, at_root_B = states.depth_B, states.at_root
        right_B = (depth_B > 1) | (at_root_B & (depth_B == 1))
        return filled(states.at_root, ~at_root_B, depth_B > 1, right_B)

    def arcs(self, states: States) -> tuple[Ints, Ints]:
        s0_B, s1_B = states.top(0), states.top(1)
        is_last_B = states.at_root & (states.depth_B == 1)
        heads_BM = filled(states.front_B, NONE, s0_B, np.where(is_last_B, states.lengths_B, s1_B))
        return heads_BM, filled(states.front_B, NONE, s1_B, s0_B)

    def right(self, states: States, heads: Ints) -> Bools:
        rows = np.arange(len(states))
        s0_B, s1_B = states.top(0), states.top(1)
        left_B = (s1_B != NONE) & (heads[rows, s1_B] == s0_B)
        waits_B = ((heads == s0_B[:, None]) & states.in_buffer()).any(1)
        above_B = np.where(s1_B == NONE, states.lengths_B, s1_B)
        right_B = ~left_B & (s0_B != NONE) & (heads[rows, s0_B] == above_B) & ~waits_B
        right_BM: Bools = filled(left_B, ~(left_B | right_B), left_B, right_B)
        return right_BM & self.legal(states)
