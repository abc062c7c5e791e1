"""The Transformer as a language model. Shapes: B sequences, T tokens, D numbers of a token."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from widemax.language.decoder import AtLeast3, Decoder, decoders
from widemax.language.tokens import Unit
from widemax.options import AtLeast1, checked
from widemax.sequences import KeyValueCache, Transformer, dropout
from widemax.sequences.dropout import Rate
from widemax.sequences.layers import Norm, NumLayers

State: TypeAlias = list[tuple[KeyValueCache, KeyValueCache]]


@decoders.register("transformer")
class TransformerDecoder(Decoder):
    """Layers of attention to the tokens so far, over windows of T tokens.

    In training a window is read by itself. In evaluation windows overlap by half, and what follows a token is
    told from T / 2 tokens before it at least. A text that goes on beyond T tokens is read again from its last
    T / 2 on.

    Args:
        dim: D.
        num_layers: of attention.
        num_heads: of each.
        hidden_dim: numbers between the two maps of a feed-forward net; 4 D where it is not given.
        norm: layer norm before each part of a layer ("pre") or after it ("post").
        positions: "rotary", or "learned", a vector of each.
        rate: the dropout.

    Example:
        >>> model = TransformerDecoder(dim=8, num_layers=1, num_heads=2)
        >>> hidden, state = model(torch.zeros(2, 3, 8))
        >>> hidden.shape, model.room(state)
        (torch.Size([2, 3, 8]), 125)

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, without an encoder; Radford et al.,
    Language models are unsupervised multitask learners, 2019.
    """

    carries = False

    @checked
    def __init__(
        self,
        *,
        dim: AtLeast1 = 256,
        num_layers: NumLayers = 4,
        num_heads: AtLeast1 = 4,
        hidden_dim: AtLeast1 | None = None,
        norm: Norm = "pre",
        positions: Literal["rotary", "learned"] = "rotary",
        rate: Rate = 0.1,
        length: AtLeast1 = 128,
        unit: Unit = "word",
        vocabulary: AtLeast3 | Literal["auto"] = "auto",
        min_count: AtLeast1 | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(dim=dim, length=length, unit=unit, vocabulary=vocabulary, min_count=min_count)
        self.rate, self.context = rate, length // 2
        self.layers = Transformer(
            num_layers,
            dim=dim,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            norm=norm,
            rate=rate,
            rotary=positions == "rotary",
        )
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.02) if positions == "learned" else None
        for parameter in self.layers.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)

    def forward(self, vectors: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        caches = self.layers.caches() if state is None else state
        start = caches[0][0].length
        if self.positions is not None:
            vectors = vectors + self.positions[start : start + vectors.shape[1]]
        vectors = dropout(vectors, self.rate) if self.training else vectors
        return self.layers(vectors, is_causal=True, caches=caches), caches

    def tensors_of(self, state: State | None) -> dict[str, Tensor]:
        return {}

    def state_of(self, tensors: dict[str, Tensor], num_rows: int) -> None:
        return None

    def room(self, state: State | None) -> int:
        return self.length - (0 if state is None else state[0][0].length)

    def segment(self, num_tokens: int) -> int:
        return self.length - self.context
