"""The perceptron against torch's layers."""

import torch
from torch import nn

from widemax.encoders.mlp import MLP


def mlp(*widths: int, dropout: float = 0.0, seed: int = 0) -> MLP:
    built = MLP(widths, dropout=dropout)
    built.initialize(5, generator=torch.Generator().manual_seed(seed))
    return built


def test_equals_torch_layers():
    ours = mlp(8, 6, 3)
    theirs = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 3))
    with torch.no_grad():
        for place, (weight, bias) in enumerate(zip(ours.weights, ours.biases, strict=True)):
            bias.copy_(torch.randn(len(bias)))
            theirs[2 * place].weight.copy_(weight)
            theirs[2 * place].bias.copy_(bias)
    inputs = torch.randn(4, 5)
    torch.testing.assert_close(ours(inputs), theirs(inputs))


def test_shift_is_added_before_the_activation():
    ours, inputs, shift = mlp(8, 3), torch.randn(4, 5), torch.randn(8)
    shifted = ours(inputs, shift.expand(4, 8))
    with torch.no_grad():
        ours.biases[0].copy_(shift)
    torch.testing.assert_close(shifted, ours(inputs))


def test_weights_follow_the_generator_and_keep_the_scale():
    assert torch.equal(mlp(8, seed=1).weights[0], mlp(8, seed=1).weights[0])
    assert not torch.equal(mlp(8, seed=1).weights[0], mlp(8, seed=2).weights[0])
    wide = MLP((2000,), dropout=0.0)
    wide.initialize(400, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(wide.weights[0].std(), torch.tensor(400**-0.5), rtol=0.01, atol=0)


def test_dropout_only_in_training_and_from_the_global_generator():
    ours, inputs = mlp(64, 3, dropout=0.5), torch.randn(4, 5)
    torch.manual_seed(3)
    first, second = ours(inputs), ours(inputs)
    torch.manual_seed(3)
    assert torch.equal(ours(inputs), first)
    assert not torch.equal(first, second)
    ours.eval()
    assert torch.equal(ours(inputs), ours(inputs))
