"""Attention with several heads.

Shapes: B sequences, T queries, S keys, D numbers of a token, H heads, E numbers of a token in one head.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from widemax.errors import ConfigError
from widemax.options import AtLeast1, checked
from widemax.sequences.positions import rotary


class KeyValueCache:
    """The keys and values [B, H, S, E] of the tokens so far, so that each is computed once.

    Example:
        >>> cache = KeyValueCache()
        >>> cache.length
        0
    """

    def __init__(self) -> None:
        self.key_value: tuple[Tensor, Tensor] | None = None

    @property
    def length(self) -> int:
        """S, how many tokens it holds."""
        return 0 if self.key_value is None else self.key_value[0].shape[2]

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, with those of the tokens that follow."""
        if self.key_value is not None:
            key, value = (torch.cat(pair, 2) for pair in zip(self.key_value, (key, value), strict=True))
        self.key_value = key, value
        return self.key_value

    def take(self, rows: Tensor) -> None:
        """Goes on with these sequences [R], each of which may stand several times."""
        if self.key_value is not None:
            key, value = (tensor.index_select(0, rows) for tensor in self.key_value)
            self.key_value = key, value


class MultiHeadAttention(nn.Module):
    """Each of H heads averages values by softmax(Q Kᵀ / √E), and a linear map joins what they found.

    Queries come from one sequence. Keys and values come from the same one (self-attention), or from a memory,
    such as what an encoder has made of the source: then another memory changes K and V alone, and another
    sequence Q alone. Without biases it has 4 D H E weights: 4 D² where E = D / H.

    Args:
        dim: D.
        num_heads: H.
        head_dim: E; D / H where it is not given.
        bias: whether the linear maps have biases.
        rotary: whether queries and keys are turned by their positions.

    Raises:
        ConfigError: H does not divide D and no E is given, or an odd E with rotary positions.

    Example:
        >>> attention = MultiHeadAttention(8, 2)
        >>> attention(torch.zeros(1, 3, 8)).shape
        torch.Size([1, 3, 8])

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2.
    """

    @checked
    def __init__(
        self,
        dim: AtLeast1,
        num_heads: AtLeast1,
        *,
        head_dim: AtLeast1 | None = None,
        bias: bool = True,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        if head_dim is None:
            if dim % num_heads:
                raise ConfigError(
                    f"num_heads must divide dim {dim} unless head_dim is given; got {num_heads}."
                )
            head_dim = dim // num_heads
        if rotary and head_dim % 2:
            raise ConfigError(f"rotary positions turn pairs, so head_dim must be even; got {head_dim}.")
        self.num_heads, self.head_dim, self.rotary = num_heads, head_dim, rotary
        width = num_heads * head_dim
        self.query = nn.Linear(dim, width, bias=bias)
        self.key_value = nn.Linear(dim, 2 * width, bias=bias)
        self.out = nn.Linear(width, dim, bias=bias)

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor | None = None,
        *,
        where: Tensor | None = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """What each token finds.

        Args:
            tokens: [B, T, D], which ask.
            memory: [M, S, D], which is asked; the tokens themselves where it is not given. M divides B:
                the first B / M sequences ask the first, and so on; with ``is_causal`` it is B.
            where: [M, S] which keys may be looked at; padding may not.
            is_causal: whether a token looks at itself and those before it alone.
            cache: of the tokens before these; it is extended by these. That of a memory is filled once.

        Returns:
            [B, T, D]. A token that may look at nothing finds zeros.
        """
        shape = tokens.shape
        asked = None if memory is None or cache is None else cache.key_value
        if memory is not None and not is_causal:
            tokens = tokens.reshape(len(memory if asked is None else asked[0]), -1, shape[-1])
        query = self._split(self.query(tokens))
        start = 0 if cache is None or memory is not None else cache.length
        if self.rotary:
            query = rotary(query, start=start)
        if asked is not None:
            key, value = asked
        else:
            key, value = map(self._split, self.key_value(tokens if memory is None else memory).chunk(2, -1))
            if self.rotary:
                key = rotary(key, start=start)
            if cache is not None:
                key, value = cache.extend(key, value)
        mask = None if where is None else where[:, None, None, :]
        if is_causal and query.shape[2] > 1 and (start or mask is not None):
            past = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
            past = past.tril(key.shape[2] - query.shape[2])
            mask = past if mask is None else mask & past
        is_causal = is_causal and mask is None and query.shape[2] > 1
        found = _attended(query, key, value, mask, is_causal=is_causal)
        joined: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return joined.view(shape)

    def _split(self, width: Tensor) -> Tensor:
        """[B, T, H E] to [B, H, T, E]."""
        return width.view(*width.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)


def _attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, is_causal: bool) -> Tensor:
    """softmax(Q Kᵀ / √E) V; on a CPU never in 16 bits, in which torch takes twenty times as long there."""
    narrow = query.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False) if narrow else nullcontext():
        if narrow:
            query, key, value = query.float(), key.float(), value.float()
        found: Tensor = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal
        )
    return found
