"""The Transformer that translates.

Shapes: B lines, S and T pieces of a source and target, P target pieces without padding, V pieces,
D numbers of a token.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from widemax.options import AtLeast1, checked
from widemax.registry import Registry
from widemax.sequences import KeyValueCache, Transformer, dropout, sinusoidal
from widemax.sequences.dropout import Rate
from widemax.sequences.layers import Norm, NumLayers
from widemax.sequences.subwords import PADDING

Caches = list[tuple[KeyValueCache, KeyValueCache]]
translators: Registry[type["EncoderDecoder"]] = Registry("translator", "widemax.translation")


@translators.register("transformer")
class EncoderDecoder(nn.Module):
    """An encoder of the source, and a decoder that looks at what it made of it and at the target so far.

    The vectors of pieces are those that the head compares hidden vectors with, times √D ("tied weights"), so
    source, target and answers share one table.

    Args:
        dim: D.
        num_layers: of the encoder, and of the decoder.
        num_heads: of attention.
        hidden_dim: numbers between the two maps of a feed-forward net.
        norm: layer norm before each part of a layer ("pre") or after it ("post").
        rate: the dropout.
        pieces: V at most, the vocabulary that is learned from both sides of the training lines.
        max_pieces: lines of more pieces are left out of training, and cut in answers.

    Example:
        >>> model = EncoderDecoder(dim=8, num_layers=1, num_heads=2, hidden_dim=16)
        >>> import torch
        >>> table = torch.zeros(9, 8)
        >>> memory, where = model.encode(torch.tensor([[5, 2]]), table)
        >>> model.decode(torch.tensor([[1]]), table, memory, where).shape
        torch.Size([1, 1, 8])

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017; the defaults are those of Wu et al.,
    "Good for misconceived reasons: an empirical revisiting on the need for visual context in multimodal
    machine translation", ACL 2021, for 29,000 lines.
    """

    @checked
    def __init__(
        self,
        *,
        dim: AtLeast1 = 128,
        num_layers: NumLayers = 4,
        num_heads: AtLeast1 = 4,
        hidden_dim: AtLeast1 = 256,
        norm: Norm = "pre",
        rate: Rate = 0.3,
        pieces: Annotated[int, Field(ge=300)] = 8000,
        max_pieces: AtLeast1 = 256,
    ) -> None:
        super().__init__()
        self.dim, self.rate, self.pieces, self.max_pieces = dim, rate, pieces, max_pieces
        options = {"num_heads": num_heads, "hidden_dim": hidden_dim, "norm": norm, "rate": rate}
        self.encoder = Transformer(num_layers, dim=dim, **options)
        self.decoder = Transformer(num_layers, dim=dim, crossed=True, **options)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)

    def encode(self, source: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, D] what the encoder makes of sources [B, S], and [B, S] where there is no padding."""
        where = source != PADDING
        return self.encoder(self._embedded(source, table), where=where), where

    def decode(
        self, target: Tensor, table: Tensor, memory: Tensor, where: Tensor, caches: Caches | None = None
    ) -> Tensor:
        """[B, T, D] what follows each piece of the target.

        Args:
            target: [B, T] ids of pieces, those after the ones that the caches hold.
            memory, where: of :meth:`encode`.
            caches: of the pieces before these; they are extended.
        """
        start = caches[0][0].length if caches else 0
        tokens = self._embedded(target, table, start=start)
        found: Tensor = self.decoder(*(tokens, memory), memory_where=where, is_causal=True, caches=caches)
        return found

    def forward(self, source: Tensor, target: Tensor, table: Tensor) -> Tensor:
        """[P, D] what follows each piece of the targets, but for padding."""
        return self.decode(target, table, *self.encode(source, table))[target != PADDING]

    def _embedded(self, ids: Tensor, table: Tensor, *, start: int = 0) -> Tensor:
        tokens = nn.functional.embedding(ids, table) * self.dim**0.5
        tokens = tokens + sinusoidal(ids.shape[1], self.dim, start=start).to(tokens)
        return dropout(tokens, self.rate) if self.training else tokens
