"""Attention with several heads beside the plain form, and what must follow from its formula."""

import pytest
import torch
from torch import Tensor

from widemax.errors import ConfigError
from widemax.numerics import attention
from widemax.sequences import KeyValueCache, MultiHeadAttention

B, T, S, D, H = 2, 4, 5, 6, 3


@pytest.fixture
def multi_head() -> MultiHeadAttention:
    torch.manual_seed(0)
    return MultiHeadAttention(D, H).double()


def tokens(length: int = T, seed: int = 1) -> Tensor:
    return torch.randn(B, length, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(
    module: MultiHeadAttention, asking: Tensor, memory: Tensor, *, is_causal: bool = False
) -> Tensor:
    """One sequence and one head at a time, by the plain form."""
    size, rows = module.head_dim, []
    for own, other in zip(asking, memory, strict=True):
        query = module.query(own)
        key, value = module.key_value(other).split(module.num_heads * size, -1)
        heads = [slice(head * size, (head + 1) * size) for head in range(module.num_heads)]
        found = [attention(query[:, at], key[:, at], value[:, at], is_causal=is_causal) for at in heads]
        rows.append(module.out(torch.cat(found, 1)))
    return torch.stack(rows)


@pytest.mark.parametrize("is_causal", [False, True])
def test_it_is_the_plain_form_head_by_head(multi_head: MultiHeadAttention, is_causal: bool) -> None:
    expected = by_loops(multi_head, tokens(), tokens(), is_causal=is_causal)
    torch.testing.assert_close(multi_head(tokens(), is_causal=is_causal), expected)


def test_a_memory_gives_keys_and_values_and_the_tokens_ask(multi_head: MultiHeadAttention) -> None:
    memory = tokens(S, seed=2)
    torch.testing.assert_close(multi_head(tokens(), memory), by_loops(multi_head, tokens(), memory))
    assert not torch.allclose(multi_head(tokens(), memory), by_loops(multi_head, memory[:, :T], memory))


def test_several_sequences_ask_one_memory(multi_head: MultiHeadAttention) -> None:
    memory, where = tokens(S, seed=2), torch.tensor([[True] * S, [True] + [False] * (S - 1)])
    asking = torch.cat([tokens(), tokens(seed=3)])  # two for each memory
    expected = multi_head(asking, memory.repeat_interleave(2, 0), where=where.repeat_interleave(2, 0))
    cache = KeyValueCache()
    for _ in range(2):  # the second time from the cache
        found = multi_head(asking, memory, where=where, cache=cache)
        torch.testing.assert_close(found, expected)
    assert cache.length == S


def test_its_gradients_are_right(multi_head: MultiHeadAttention) -> None:
    where = torch.tensor([[True] * T, [True, True, False, False]])
    asking = tokens().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: multi_head(x, where=where, is_causal=True), asking)


@pytest.mark.parametrize(("head_dim", "weights"), [(None, 4 * D * D), (D, 4 * H * D * D)])
def test_how_many_weights_it_has(head_dim: int | None, weights: int) -> None:
    module = MultiHeadAttention(D, H, head_dim=head_dim, bias=False)
    assert sum(parameter.numel() for parameter in module.parameters()) == weights


def test_without_positions_it_follows_any_order(multi_head: MultiHeadAttention) -> None:
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(multi_head(tokens()[:, order]), multi_head(tokens())[:, order])


def test_what_follows_changes_nothing_before_it(multi_head: MultiHeadAttention) -> None:
    changed = tokens()
    changed[:, 2:] += 1
    before, after = (multi_head(x, is_causal=True) for x in (tokens(), changed))
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])
    assert not torch.allclose(multi_head(tokens())[:, :2], multi_head(changed)[:, :2])


def test_padding_has_no_weight(multi_head: MultiHeadAttention) -> None:
    where = torch.tensor([[True, True, True, False]] * B)
    padded = tokens()
    padded[:, 3] = 100.0
    found = multi_head(padded, where=where)
    torch.testing.assert_close(found[:, :3], multi_head(tokens()[:, :3]))


def test_who_may_look_at_nothing_finds_zeros(multi_head: MultiHeadAttention) -> None:
    found = multi_head(tokens(), where=torch.zeros(B, T, dtype=torch.bool))
    torch.testing.assert_close(found, multi_head.out.bias.expand_as(found))


@pytest.mark.parametrize("rotary", [False, True])
def test_one_token_at_a_time_finds_the_same(rotary: bool) -> None:
    torch.manual_seed(0)
    module = MultiHeadAttention(8, 2, rotary=rotary).double()
    asking = torch.randn(B, T, 8, dtype=torch.float64)
    cache = KeyValueCache()
    parts = [module(part, is_causal=True, cache=cache) for part in asking.split([1, 2, 1], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), module(asking, is_causal=True))


def test_a_cache_goes_on_with_the_rows_taken(multi_head: MultiHeadAttention) -> None:
    cache = KeyValueCache()
    multi_head(tokens()[:, :2], is_causal=True, cache=cache)
    cache.take(torch.tensor([1, 1]))
    last = multi_head(tokens()[[1, 1], 2:3], is_causal=True, cache=cache)
    torch.testing.assert_close(last, multi_head(tokens()[[1, 1], :3], is_causal=True)[:, 2:])


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_heads must divide dim 6"):
        MultiHeadAttention(6, 4)
    with pytest.raises(ConfigError, match="head_dim must be even; got 3"):
        MultiHeadAttention(6, 2, rotary=True)
