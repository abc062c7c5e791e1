"""Dependency parsing by transitions: a state of the parser is the context, its next action the class."""

from widemax.parsing.attachment import Attachment
from widemax.parsing.config import ParserConfig
from widemax.parsing.conllu import Sentence, read_conllu, sentence_of, words_in
from widemax.parsing.parser import Parser, Tree
from widemax.parsing.projective import lift, restore

__all__ = [
    "Attachment",
    "Parser",
    "ParserConfig",
    "Sentence",
    "Tree",
    "lift",
    "read_conllu",
    "restore",
    "sentence_of",
    "words_in",
]
