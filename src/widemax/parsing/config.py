"""The section [parser] of a config."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from widemax.config import Section
from widemax.options import AtLeast1
from widemax.parsing.slots import TOP, Slots
from widemax.parsing.transitions.base import transition_systems

Width = Annotated[int, Field(ge=1, le=8192)]


class ParserConfig(Section):
    """The parser.

    Attributes:
        system: the transition system: "arc_hybrid", "arc_standard" or "arc_eager".
        slots: the words of a state by which an action is chosen.
        form_dim: numbers of a word's vector, and of that of its character n-grams.
        tag_dim: numbers of the vector of a word's tags, where they are read.
        encoder: what tells words of their sentence: "lstm", from both its ends, or "transformer".
        layers: of the encoder; 0 for words that know nothing of their sentence.
        hidden: numbers that one LSTM gives a word; a Transformer gives twice as many.
        action_dim: numbers of a state's hidden vector.
        dropout: of vectors, in training.
        unknown: α; a form seen c times is read as an unknown one with α / (α + c) in training.
        explore: how often training follows the parser's own best action instead of a right one, from its
            second epoch on; for a system whose right actions are known in every state.
        tagging: weight of a second loss, of naming each word's tags, which makes better vectors, and where
            tags are read gives them to words that have none; 0 for none.
        beam: how many states are kept at once for a sentence when it is parsed.
        batch_words: words of a step, of sentences of like length; "auto" takes 500, and fewer, down to 100,
            where an epoch would have less than 100 steps.
    """

    system: str = "arc_hybrid"
    slots: tuple[str, ...] = TOP
    form_dim: Width = 100
    tag_dim: Width = 100
    encoder: Literal["lstm", "transformer"] = "lstm"
    layers: int = Field(default=2, ge=0, le=16)
    hidden: Width = 200
    action_dim: Width = 200
    dropout: float = Field(default=0.33, ge=0.0, lt=1.0)
    unknown: float = Field(default=0.25, ge=0.0)
    explore: float = Field(default=0.9, ge=0.0, le=1.0)
    tagging: float = Field(default=0.3, ge=0.0)
    beam: int = Field(default=1, ge=1, le=1024)
    batch_words: AtLeast1 | Literal["auto"] = "auto"

    @field_validator("system")
    @classmethod
    def _is_known(cls, value: str) -> str:
        transition_systems[value]
        return value

    @field_validator("slots")
    @classmethod
    def _are_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return Slots(value).names
