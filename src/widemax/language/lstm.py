"""The LSTM as a language model. Shapes: B sequences, T tokens, D numbers of a token, L layers."""

import sys
from typing import Literal, TypeAlias

from torch import Tensor, nn

from widemax.errors import CorruptError
from widemax.language.decoder import AtLeast3, Decoder, decoders
from widemax.language.tokens import Unit
from widemax.options import AtLeast1, checked
from widemax.sequences import dropout
from widemax.sequences.dropout import Rate
from widemax.sequences.layers import NumLayers

State: TypeAlias = tuple[Tensor, Tensor]
MOST_SEGMENTS = 16


@decoders.register("lstm")
class LSTM(Decoder):
    """Layers of long short-term memory, whose state is carried from each step of training to the next.

    A step reads T tokens on in each of B places of the text, and gradients end where it began (truncated
    backpropagation through time), while what was read before lives on in the state.

    Args:
        dim: D, also of the layers.
        num_layers: L.
        rate: the dropout of what goes into a layer and comes out of the last.

    Example:
        >>> import torch
        >>> model = LSTM(dim=8)
        >>> hidden, state = model(torch.zeros(2, 3, 8))
        >>> hidden.shape, sorted(model.tensors_of(state))
        (torch.Size([2, 3, 8]), ['0.c', '0.h'])

    Source: Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 1997; Zaremba, Sutskever
    and Vinyals, Recurrent neural network regularization, 2014 (dropout between layers only).
    """

    carries = True
    context = 256

    @checked
    def __init__(
        self,
        *,
        dim: AtLeast1 = 256,
        num_layers: NumLayers = 1,
        rate: Rate = 0.2,
        length: AtLeast1 = 64,
        unit: Unit = "word",
        vocabulary: AtLeast3 | Literal["auto"] = "auto",
        min_count: AtLeast1 | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(dim=dim, length=length, unit=unit, vocabulary=vocabulary, min_count=min_count)
        self.rate = rate
        self.layers = nn.ModuleList(nn.LSTM(dim, dim, batch_first=True) for _ in range(num_layers))

    def forward(self, vectors: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        states: list[State] = []
        for number, layer in enumerate(self.layers):
            vectors, new = layer(self._dropped(vectors), None if state is None else state[number])
            states.append(new)
        return self._dropped(vectors), states

    def _dropped(self, vectors: Tensor) -> Tensor:
        return dropout(vectors, self.rate) if self.training else vectors

    def tensors_of(self, state: list[State] | None) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for number, (hidden, cell) in enumerate(state or ()):
            named |= {f"{number}.h": hidden, f"{number}.c": cell}
        return named

    def state_of(self, tensors: dict[str, Tensor], num_rows: int) -> list[State]:
        names = {f"{n}.{name}" for n in range(len(self.layers)) for name in "hc"}
        kinds = {(tensor.dtype, tuple(tensor.shape)) for tensor in tensors.values()}
        dtype = next(self.parameters()).dtype
        if tensors.keys() != names or kinds != {(dtype, (1, num_rows, self.dim))}:
            raise CorruptError("the state that is carried must be two vectors a layer and sequence")
        return [(tensors[f"{n}.h"], tensors[f"{n}.c"]) for n in range(len(self.layers))]

    def room(self, state: list[State] | None) -> int:
        return sys.maxsize

    def segment(self, num_tokens: int) -> int:
        return max(-(-num_tokens // MOST_SEGMENTS), MOST_SEGMENTS * self.context)
