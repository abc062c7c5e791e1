"""Moves with relations: the classes of a parser.

Shapes: B states, N words, M moves, A actions, R relations.
"""

from collections.abc import Sequence

import numpy as np

from widemax.parsing.transitions.base import NONE, Bools, Ints, States, TransitionSystem


class Actions:
    """Every move of a transition system with every relation that it may make.

    Args:
        system: whose moves.
        relations: names of R relations.
        of_root: [R] whether training saw the relation between the root and a word; no other may stand there.
        of_word: [R] likewise between two words.
    """

    def __init__(
        self, system: TransitionSystem, relations: Sequence[str], of_root: Bools, of_word: Bools
    ) -> None:
        self.system, self.relations = system, tuple(relations)
        pairs = [
            (at, relation)
            for at, move in enumerate(system.moves)
            for relation in (range(len(self.relations)) if move.makes_arc else [NONE])
        ]
        self.move_A, self.relation_A = np.array(pairs, dtype=np.int64).T.copy()
        self._makes_arc_A = self.relation_A != NONE
        # Sentences of one word show no relation between words; any will do then.
        of_word = of_word if of_word.any() else ~of_word
        self._of_root_A = of_root[self.relation_A] | ~self._makes_arc_A
        self._of_word_A = of_word[self.relation_A] | ~self._makes_arc_A

    def __len__(self) -> int:
        return len(self.move_A)

    def legal(self, states: States) -> Bools:
        """[B, A] which actions are allowed."""
        heads_BM, _ = self.system.arcs(states)
        from_root_BA = (heads_BM == states.lengths_B[:, None])[:, self.move_A]
        fits_BA: Bools = np.where(from_root_BA, self._of_root_A, self._of_word_A)
        return fits_BA & self.system.legal(states)[:, self.move_A]

    def right(self, states: States, heads: Ints, relations: Ints, legal_BA: Bools) -> Bools:
        """[B, A] which allowed actions lose nothing of the right tree: a right arc has its right relation.

        Args:
            states: B states.
            heads: [B, N] right heads, n for the root's.
            relations: [B, N] right relations.
            legal_BA: what :meth:`legal` says of the states.
        """
        heads_BM, dependents_BM = self.system.arcs(states)
        rows_B1 = np.arange(len(states))[:, None]
        is_arc_BM = (dependents_BM != NONE) & (heads[rows_B1, dependents_BM] == heads_BM)
        wanted_BM = np.where(is_arc_BM, relations[rows_B1, dependents_BM], NONE)
        wanted_BA = wanted_BM[:, self.move_A]
        fits_BA: Bools = (wanted_BA == NONE) | (wanted_BA == self.relation_A)
        return fits_BA & legal_BA & self.system.right(states, heads)[:, self.move_A]

    def apply(self, states: States, action_B: Ints) -> None:
        """Carries out an action in each state."""
        self.system.apply(states, self.move_A[action_B], self.relation_A[action_B])
