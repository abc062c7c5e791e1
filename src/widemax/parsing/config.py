"""The description of a parser's run; what of it is not said has the defaults here."""

from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, field_validator

from widemax.config import OutputConfig, PathText, Section, TrainConfig, read_toml
from widemax.options import checked
from widemax.parsing.slots import TOP, Slots
from widemax.parsing.transitions.base import transition_systems

TagColumn = Literal["UPOS", "XPOS", "FEATS"]
Width = Annotated[int, Field(ge=1, le=8192)]


class TreebankConfig(Section):
    """What is read.

    Attributes:
        train: CoNLL-U files with trees.
        valid: held-out ones; without them the last ``valid_fraction`` of the sentences of ``train``.
        input: the columns of tags that are read beside the words: any of "UPOS", "XPOS", "FEATS", or none.
            Files to be parsed must have them.
        valid_fraction: the part of the sentences that is held out where there is no ``valid``.
    """

    train: tuple[PathText, ...] = ()
    valid: tuple[PathText, ...] = ()
    input: tuple[TagColumn, ...] = ()
    valid_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)

    @field_validator("train", "valid", "input", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value


class ParserConfig(Section):
    """The parser.

    Attributes:
        system: the transition system: "arc_hybrid", "arc_standard" or "arc_eager".
        slots: the words of a state by which an action is chosen.
        form_dim: numbers of a word's vector, and of that of its character n-grams.
        tag_dim: numbers of the vector of a word's tags, where they are read.
        layers: of LSTMs from both ends of a sentence; 0 for words that know nothing of their sentence.
        hidden: numbers that one LSTM gives a word.
        action_dim: numbers of a state's hidden vector.
        dropout: of vectors, in training.
        unknown: α; a form seen c times is read as an unknown one with α / (α + c) in training.
        explore: how often training follows the parser's own best action instead of a right one, from its
            second epoch on; for a system whose right actions are known in every state.
        tagging: weight of a second loss, of naming each word's tags, which makes better vectors; 0 for none.
        beam: how many states are kept at once for a sentence when it is parsed.
    """

    system: str = "arc_hybrid"
    slots: tuple[str, ...] = TOP
    form_dim: Width = 100
    tag_dim: Width = 100
    layers: int = Field(default=2, ge=0, le=16)
    hidden: Width = 200
    action_dim: Width = 200
    dropout: float = Field(default=0.33, ge=0.0, lt=1.0)
    unknown: float = Field(default=0.25, ge=0.0)
    explore: float = Field(default=0.9, ge=0.0, le=1.0)
    tagging: float = Field(default=0.3, ge=0.0)
    beam: int = Field(default=1, ge=1, le=1024)

    @field_validator("system")
    @classmethod
    def _is_known(cls, value: str) -> str:
        transition_systems[value]
        return value

    @field_validator("slots")
    @classmethod
    def _are_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return Slots(value).names


class FitConfig(Section):
    """How the parser is trained.

    Attributes:
        epochs: how often every sentence is visited.
        batch_words: words of a step, of sentences of like length; "auto" takes 500, and fewer, down to 100,
            where an epoch would have less than 100 steps.
        learning_rate: the largest learning rate, which rises at first and then falls linearly to zero.
        patience: stop after this many epochs without a better LAS on the held-out sentences.
        time_limit_s: stop after this many seconds and save; unlimited when it is not given.
        checkpoint_every_s: seconds between checkpoints.
        seed: the start of all randomness.
    """

    epochs: int = Field(default=20, ge=1)
    batch_words: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    learning_rate: float = Field(default=8e-3, gt=0.0)
    patience: int = Field(default=10, ge=1)
    time_limit_s: Annotated[float, Field(gt=0.0)] | None = None
    checkpoint_every_s: float = Field(default=60.0, gt=0.0)
    seed: int = Field(default=0, ge=0, lt=2**63)

    def for_the_loop(self) -> TrainConfig:
        """The same as the loop over steps reads it."""
        shared = {"epochs", "learning_rate", "patience", "time_limit_s", "checkpoint_every_s", "seed"}
        return TrainConfig(metric="las", **self.model_dump(include=shared))


class ParsingConfig(Section):
    """A whole run of a parser, section by section; each is a mapping of its keys.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value out of range.

    Example:
        >>> ParsingConfig(data={"train": "train.conllu"}, parser={"hidden": 100}).parser.system
        'arc_hybrid'
    """

    data: TreebankConfig = TreebankConfig()
    parser: ParserConfig = ParserConfig()
    train: FitConfig = FitConfig()
    output: OutputConfig = OutputConfig()

    @classmethod
    @checked
    def load(cls, path: Path | str) -> "ParsingConfig":
        """Read a TOML file; its data are looked for from its folder, then from the current directory.

        Raises:
            ConfigError: the file cannot be read, or is no config of a parser.
        """
        return cls(**read_toml(Path(path)))

    def to_toml(self) -> str:
        """The complete config as TOML; what is None is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
