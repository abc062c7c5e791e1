"""Transition systems: stacks, buffers and moves that build trees; one file a system."""

from widemax.parsing.transitions.arc_eager import ArcEager
from widemax.parsing.transitions.arc_hybrid import ArcHybrid
from widemax.parsing.transitions.arc_standard import ArcStandard
from widemax.parsing.transitions.base import NONE, Move, States, TransitionSystem, transition_systems

__all__ = [
    "NONE",
    "ArcEager",
    "ArcHybrid",
    "ArcStandard",
    "Move",
    "States",
    "TransitionSystem",
    "transition_systems",
]
