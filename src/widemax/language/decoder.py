"""What a network of a language model is. Shapes: B sequences, T tokens, D numbers of a token."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from widemax.language.tokens import Sizes, Unit
from widemax.registry import Registry

AtLeast3 = Annotated[int, Field(ge=3)]
USUAL_SIZES: dict[str, Sizes] = {
    "word": Sizes(50_000, min_count=2),
    "subword": Sizes(8_000, min_count=1),
    "character": Sizes(50_000, min_count=1),
}
"""The vocabulary of each unit where the config says nothing."""


class Decoder(nn.Module, ABC):
    """A network that reads a text token by token, and gives of each what follows it.

    Args:
        dim: D.
        length: T, how many tokens one step of training reads of each sequence.
        unit: what a token is: "word", "subword" or "character".
        vocabulary: the most classes; "auto" takes 50,000 words or characters, or 8,000 pieces of words.
        min_count: how often a word or character must occur in the training text to be a class of its own;
            "auto" takes 2 for words and 1 for characters.

    Attributes:
        carries: whether its state goes from a step of training to the next, which reads on.
        context: how many tokens before those that are evaluated it reads first.
    """

    carries: ClassVar[bool]
    context: int

    def __init__(
        self,
        *,
        dim: int,
        length: int,
        unit: Unit,
        vocabulary: int | Literal["auto"],
        min_count: int | Literal["auto"],
    ) -> None:
        super().__init__()
        self.dim, self.length, self.unit = dim, length, unit
        usual = USUAL_SIZES[unit]
        self.sizes = Sizes(
            usual.most if vocabulary == "auto" else vocabulary,
            usual.min_count if min_count == "auto" else min_count,
        )

    @abstractmethod
    def forward(self, vectors: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """What follows each token, and the state in which the next tokens are read.

        Args:
            vectors: [B, T, D] of the tokens, those after the ones that led to the state.
            state: of the call before; nothing has been read without one.

        Returns:
            [B, T, D], and the state.
        """

    @abstractmethod
    def tensors_of(self, state: Any) -> dict[str, Tensor]:
        """A state as tensors with names, for a checkpoint; empty where it carries none."""

    @abstractmethod
    def state_of(self, tensors: dict[str, Tensor], num_rows: int) -> Any:
        """The inverse of :meth:`tensors_of`, for so many sequences.

        Raises:
            CorruptError: they are of no such state.
        """

    @abstractmethod
    def room(self, state: Any) -> int:
        """How many tokens more can be read from a state."""

    @abstractmethod
    def segment(self, num_tokens: int) -> int:
        """How many tokens of a text of so many are evaluated after reading a context once."""


decoders: Registry[type[Decoder]] = Registry("decoder", "widemax.language")
