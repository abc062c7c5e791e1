"""Transition systems over many sentences at once. Shapes: B sentences, N words of the longest, M moves.

A state is a stack σ of words, a buffer β of the words still to come, and the arcs made so far. The root r
stands last in the buffer. Words are counted from 0; a sentence of n words calls its root n.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from widemax.registry import Registry

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Array = TypeVar("Array", Ints, Bools)

NONE = -1
"""No word: below the stack, or the head of a word that has none yet."""


class Move(NamedTuple):
    """One kind of transition.

    Args:
        name: such as "left".
        effect: "push" puts the buffer's first word on the stack, "pop" takes the top away, "pop_second" the
            word below it.
        makes_arc: whether it makes an arc, and thus has a relation.
    """

    name: str
    effect: Literal["push", "pop", "pop_second"]
    makes_arc: bool


@dataclass
class States:
    """The states of B sentences as arrays.

    Args:
        lengths_B: words of each sentence.
        front_B: the buffer's first word; n, the root, once no word is left.
        depth_B: words on the stack.
        stack_BN: the stacks, bottom first.
        heads_BN: head of each word as far as it is known, else ``NONE``.
        relations_BN: relation to the head, else ``NONE``.
    """

    lengths_B: Ints
    front_B: Ints
    depth_B: Ints
    stack_BN: Ints
    heads_BN: Ints
    relations_BN: Ints

    @classmethod
    def start(cls, lengths: Ints) -> Self:
        """The first states of sentences of these lengths."""
        shape = len(lengths), int(max(lengths, default=0))
        empty_BN = np.full(shape, NONE, dtype=np.int64)
        nothing_B = np.zeros(len(lengths), dtype=np.int64)
        return cls(lengths, nothing_B, nothing_B.copy(), empty_BN, empty_BN.copy(), empty_BN.copy())

    def __len__(self) -> int:
        return len(self.lengths_B)

    def of(self, rows: slice | Ints) -> "States":
        """The states of some sentences: a slice sees the same memory, ids copy it."""
        return States(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def put(self, states: "States") -> None:
        """Take over what other states of the same sentences hold."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[:] = getattr(states, name)

    def top(self, place: int) -> Ints:
        """The words at a place of the stacks, 0 for the top, or ``NONE``; [B]."""
        at_B = self.depth_B - 1 - place
        words_B = self.stack_BN[np.arange(len(self)), np.maximum(at_B, 0)]
        words_B[at_B < 0] = NONE
        return words_B

    @property
    def at_root(self) -> Bools:
        """[B] whether only the root is left in the buffer."""
        is_at_B: Bools = self.front_B == self.lengths_B
        return is_at_B

    def in_buffer(self) -> Bools:
        """[B, N] whether a word is still in the buffer."""
        is_in_BN: Bools = np.arange(self.stack_BN.shape[1]) >= self.front_B[:, None]
        return is_in_BN

    def on_stack(self) -> Bools:
        """[B, N] whether a word is on the stack."""
        is_on_BN = np.zeros(self.stack_BN.shape, dtype=np.bool_)
        rows_P, places_P = np.nonzero(np.arange(self.stack_BN.shape[1]) < self.depth_B[:, None])
        is_on_BN[rows_P, self.stack_BN[rows_P, places_P]] = True
        return is_on_BN


class TransitionSystem(ABC):
    """Moves that build every projective tree of n words with one root in exactly 2n steps.

    A system says which moves are allowed, which arc each would make, and which moves lose nothing.
    """

    moves: ClassVar[tuple[Move, ...]]
    is_dynamic: ClassVar[bool]
    """Whether :meth:`right` holds in every state, not only in those on the way to the right tree."""

    def __init__(self) -> None:
        self._pushes_M = np.array([move.effect == "push" for move in self.moves])
        self._pops_second_M = np.array([move.effect == "pop_second" for move in self.moves])
        self._pops_second = bool(self._pops_second_M.any())

    @abstractmethod
    def legal(self, states: States) -> Bools:
        """Which moves are allowed; [B, M]. Every state before the last has one."""

    @abstractmethod
    def arcs(self, states: States) -> tuple[Ints, Ints]:
        """Head and dependent of the arc each move would make; [B, M] both, ``NONE`` where it makes none."""

    @abstractmethod
    def right(self, states: States, heads: Ints) -> Bools:
        """Which moves lose no arc of the right trees that can still be made; [B, M].

        Args:
            states: B states.
            heads: [B, N] right heads, n for the root's.
        """

    def apply(self, states: States, moves: Ints, relations: Ints) -> None:
        """Carries out a legal move in each state.

        Args:
            states: changed in place.
            moves: [B] positions in ``moves``.
            relations: [B] ids of relations, which count for moves that make an arc.
        """
        rows = np.arange(len(states))
        heads_BM, dependents_BM = self.arcs(states)
        head_B, dependent_B = heads_BM[rows, moves], dependents_BM[rows, moves]
        made = np.flatnonzero(dependent_B != NONE)
        states.heads_BN[made, dependent_B[made]] = head_B[made]
        states.relations_BN[made, dependent_B[made]] = relations[made]
        is_pushed_B = self._pushes_M[moves]
        if self._pops_second:
            seconds = np.flatnonzero(self._pops_second_M[moves])
            states.stack_BN[seconds, states.depth_B[seconds] - 2] = states.top(0)[seconds]
        pushed = np.flatnonzero(is_pushed_B)
        states.stack_BN[pushed, states.depth_B[pushed]] = states.front_B[pushed]
        states.front_B += is_pushed_B
        states.depth_B += 2 * is_pushed_B - 1


def filled(like: Array, *columns: Array | int) -> Array:
    """Columns [B], or one number for all rows, side by side in the dtype of ``like`` [B]; [B, M]."""
    matrix: Array = np.empty((len(like), len(columns)), dtype=like.dtype)
    for at, column in enumerate(columns):
        matrix[:, at] = column
    return matrix


transition_systems: Registry[type[TransitionSystem]] = Registry(
    "transition system", "widemax.parsing.transitions"
)
