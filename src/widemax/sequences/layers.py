"""Transformer layers and stacks of them.

Shapes: B sequences, T tokens, S tokens of a memory, D numbers of a token, F numbers in between.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from widemax.options import AtLeast1, checked
from widemax.sequences.dropout import Rate, dropout
from widemax.sequences.multi_head import KeyValueCache, MultiHeadAttention

Norm = Literal["pre", "post"]
NumLayers = Annotated[int, Field(ge=1, le=1000)]
"""More would be a mistake, or damage, that takes all memory before it is noticed."""


class FeedForward(nn.Module):
    """Two linear maps of each token by itself, and a rectifier between them.

    Args:
        dim: D.
        hidden_dim: F.
        rate: the dropout between the maps.

    Example:
        >>> import torch
        >>> FeedForward(4, 8)(torch.zeros(1, 2, 4)).shape
        torch.Size([1, 2, 4])

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.3.
    """

    @checked
    def __init__(self, dim: AtLeast1, hidden_dim: AtLeast1, *, rate: Rate = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.hidden = nn.Linear(dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, D] of [B, T, D]."""
        hidden = self.hidden(tokens).relu()
        joined: Tensor = self.out(dropout(hidden, self.rate) if self.training else hidden)
        return joined


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory if there is one, and a feed-forward net, each added to its input.

    Args:
        dim: D.
        num_heads: of attention.
        hidden_dim: F; 4 D where it is not given.
        head_dim: numbers of a token in one head.
        crossed: whether it looks at a memory.
        norm: layer norm before each part ("pre"), which trains without care, or after adding it ("post"), as
            in the paper.
        rate: the dropout of what is added.
        rotary: whether self-attention turns queries and keys by their positions.

    Example:
        >>> import torch
        >>> layer = TransformerLayer(8, 2, crossed=True)
        >>> layer(torch.zeros(1, 3, 8), torch.zeros(1, 5, 8), is_causal=True).shape
        torch.Size([1, 3, 8])

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.1; for "pre", Xiong et al., On
    layer normalization in the Transformer architecture, ICML 2020.
    """

    @checked
    def __init__(
        self,
        dim: AtLeast1,
        num_heads: AtLeast1,
        *,
        hidden_dim: AtLeast1 | None = None,
        head_dim: AtLeast1 | None = None,
        crossed: bool = False,
        norm: Norm = "pre",
        rate: Rate = 0.0,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        self.rate, self.is_pre = rate, norm == "pre"
        self.attention = MultiHeadAttention(dim, num_heads, head_dim=head_dim, rotary=rotary)
        self.crossed = MultiHeadAttention(dim, num_heads, head_dim=head_dim) if crossed else None
        self.feed_forward = FeedForward(dim, hidden_dim or 4 * dim, rate=rate)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3 if crossed else 2))

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor | None = None,
        *,
        where: Tensor | None = None,
        memory_where: Tensor | None = None,
        is_causal: bool = False,
        caches: tuple[KeyValueCache, KeyValueCache] | None = None,
    ) -> Tensor:
        """[B, T, D] of [B, T, D]; the arguments are those of :class:`MultiHeadAttention`."""
        own, across = caches or (None, None)
        parts: list[Callable[[Tensor], Tensor]] = [
            partial(self.attention, where=where, is_causal=is_causal, cache=own),
            self.feed_forward,
        ]
        if self.crossed is not None:
            parts.insert(1, partial(self.crossed, memory=memory, where=memory_where, cache=across))
        for norm, part in zip(self.norms, parts, strict=True):
            added = part(norm(tokens) if self.is_pre else tokens)
            tokens = tokens + (dropout(added, self.rate) if self.training else added)
            tokens = tokens if self.is_pre else norm(tokens)
        return tokens


class Transformer(nn.Module):
    """A stack of layers: an encoder, or with ``crossed`` or ``is_causal`` a decoder.

    Args:
        num_layers: how many.
        options: of :class:`TransformerLayer`.

    Example:
        >>> import torch
        >>> decoder = Transformer(2, dim=8, num_heads=2)
        >>> caches = decoder.caches()
        >>> decoder(torch.zeros(1, 3, 8), is_causal=True, caches=caches).shape, caches[0][0].length
        (torch.Size([1, 3, 8]), 3)
    """

    @checked
    def __init__(self, num_layers: NumLayers, *, dim: AtLeast1, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, **options) for _ in range(num_layers))
        # What is added up along the way has no norm of its own.
        self.norm = nn.LayerNorm(dim) if options.get("norm", "pre") == "pre" else nn.Identity()

    def caches(self) -> list[tuple[KeyValueCache, KeyValueCache]]:
        """Of each layer those of its tokens and of the memory, empty."""
        return [(KeyValueCache(), KeyValueCache()) for _ in self.layers]

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor | None = None,
        *,
        caches: list[tuple[KeyValueCache, KeyValueCache]] | None = None,
        **options: Any,
    ) -> Tensor:
        """[B, T, D] of [B, T, D]; the arguments are those of :class:`TransformerLayer`."""
        for number, layer in enumerate(self.layers):
            own = None if caches is None else caches[number]
            tokens = layer(tokens, memory, caches=own, **options)
        return self.norm(tokens)  # type: ignore[no-any-return]
