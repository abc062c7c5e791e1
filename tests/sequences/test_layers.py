"""Transformer layers: step by step as at once, and beside torch's own."""

import pytest
import torch
from torch import nn

from widemax.sequences import Transformer, TransformerLayer


def test_layer_norm_looks_at_rows() -> None:
    rows = torch.tensor([[1.0, 2.0], [2.0, 3.0]])
    torch.testing.assert_close(nn.LayerNorm(2)(rows), torch.tensor([[-1.0, 1.0]] * 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        nn.BatchNorm1d(2)(rows), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_decoder_layer_is_that_of_torch(norm: str) -> None:
    torch.manual_seed(0)
    own = TransformerLayer(8, 2, hidden_dim=12, crossed=True, norm=norm).double()
    other = nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=norm == "pre").double()
    for mine, theirs in ((own.attention, other.self_attn), (own.crossed, other.multihead_attn)):
        theirs.in_proj_weight.data = torch.cat([mine.query.weight, mine.key_value.weight]).detach()
        theirs.in_proj_bias.data = torch.cat([mine.query.bias, mine.key_value.bias]).detach()
        theirs.out_proj.load_state_dict(mine.out.state_dict())
    other.linear1.load_state_dict(own.feed_forward.hidden.state_dict())
    other.linear2.load_state_dict(own.feed_forward.out.state_dict())
    tokens, memory = torch.randn(2, 4, 8).double(), torch.randn(2, 5, 8).double()
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    expected = other(tokens, memory, tgt_mask=mask, tgt_is_causal=True)
    torch.testing.assert_close(own(tokens, memory, is_causal=True), expected)


@pytest.mark.parametrize("rotary", [False, True])
def test_token_by_token_is_all_at_once(rotary: bool) -> None:
    torch.manual_seed(0)
    decoder = Transformer(2, dim=8, num_heads=2, crossed=True, rotary=rotary).double().eval()
    tokens, memory = torch.randn(3, 5, 8).double(), torch.randn(3, 4, 8).double()
    where = torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True] + [False] * 3])
    caches = decoder.caches()
    steps = [
        decoder(part, memory, memory_where=where, is_causal=True, caches=caches)
        for part in tokens.split(1, 1)
    ]
    whole = decoder(tokens, memory, memory_where=where, is_causal=True)
    torch.testing.assert_close(torch.cat(steps, 1), whole)


def test_dropout_is_of_training_alone() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, rate=0.5)
    tokens = torch.randn(1, 3, 8)
    assert not torch.equal(layer(tokens), layer(tokens))
    layer.eval()
    assert torch.equal(layer(tokens), layer(tokens))
