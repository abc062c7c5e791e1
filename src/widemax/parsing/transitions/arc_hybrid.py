"""Arc-hybrid, whose dynamic oracle is exact. Shapes: B sentences, N words, M moves."""

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
@transition_systems.register("arc_hybrid")
class ArcHybrid(TransitionSystem):
    """Left arcs from the buffer, right arcs within the stack; a word has all its dependents before its head.

    SHIFT moves the buffer's first word b to the stack. LEFT makes s0 a dependent of b, RIGHT of the word s1
    below it; both take s0 away. The root takes a word only when that is alone on the stack, so every tree has
    one root.

    Use: the default. Its costs hold in any state, so it can learn from its own mistakes.

    Source: Kuhlmann, Gómez-Rodríguez and Satta, "Dynamic Programming Algorithms for Transition-Based
    Dependency Parsers" (ACL 2011), §3.3; the oracle follows Goldberg and Nivre, "Training Deterministic
    Parsers with Non-Deterministic Oracles" (TACL 2013), with costs put right for a single root.
    """

    moves: ClassVar[tuple[Move, ...]] = (
        Move("shift", "push", False),
        Move("left", "pop", True),
        Move("right", "pop", True),
    )
    is_dynamic: ClassVar[bool] = True

    def legal(self, states: States) -> Bools:
        depth_B, at_root_B = states.depth_B, states.at_root
        left_B = (depth_B > 0) & (~at_root_B | (depth_B == 1))
        return filled(states.at_root, ~at_root_B, left_B, depth_B > 1)

    def arcs(self, states: States) -> tuple[Ints, Ints]:
        s0_B = states.top(0)
        heads_BM = filled(states.front_B, NONE, states.front_B, states.top(1))
        return heads_BM, filled(states.front_B, NONE, s0_B, s0_B)

    def costs(self, states: States, heads: Ints) -> Ints:
        """How many right arcs each move puts out of reach; [B, M], of meaning where the move is legal.

        With the stack σ, the buffer β, its first word b and the root r::

            left  = [H(s0) = s1] + [H(s0) beyond b and (H(s0) ≠ r or |σ| = 1)] + #{x in β: H(x) = s0}
            right = [H(s0) in β, not r] + #{x in β: H(x) = s0}
            shift = [H(b) in σ but not s0] + #{x in σ: H(x) = b} + [H(b) = r and σ not empty]

        The usual costs count an arc from the root as lost with a move although a word below on the stack had
        lost it before, and do not count that a word shifted onto others can no longer be the root.

        Args:
            states: B states.
            heads: [B, N] right heads, n for the root's.
        """
        rows = np.arange(len(states))
        n_B, b_B, depth_B = states.lengths_B, states.front_B, states.depth_B
        s0_B, s1_B = states.top(0), states.top(1)
        is_on_BN = states.on_stack()
        last_B = np.minimum(b_B, n_B - 1)  # stands for the root, of which nothing is asked
        head_b_B, head_s0_B = heads[rows, last_B], heads[rows, s0_B]
        behind_B = ((heads == s0_B[:, None]) & states.in_buffer()).sum(1)
        later_B = (head_s0_B > b_B) & ((head_s0_B != n_B) | (depth_B == 1))
        left_B = behind_B + (head_s0_B == s1_B) + later_B
        right_B = behind_B + ((head_s0_B >= b_B) & (head_s0_B != n_B))
        to_root_B = head_b_B == n_B
        head_on_B = is_on_BN[rows, np.where(to_root_B, 0, head_b_B)] & ~to_root_B & (head_b_B != s0_B)
        before_B = (is_on_BN & (heads == b_B[:, None])).sum(1)
        shift_B = before_B + (head_on_B | (to_root_B & (depth_B > 0)))
        return filled(left_B, shift_B, left_B, right_B)

    def right(self, states: States, heads: Ints) -> Bools:
        is_free_BM: Bools = self.costs(states, heads) == 0
        return self.legal(states) & is_free_BM
