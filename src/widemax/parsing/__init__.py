"""Dependency parsing by transitions: a state of the parser is the context, its next action the class."""

from widemax.parsing.conllu import Sentence, read_conllu
from widemax.parsing.projective import lift, restore

__all__ = ["Sentence", "lift", "read_conllu", "restore"]
