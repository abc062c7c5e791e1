"""The loss of an autoencoder against torch."""

import pytest
import torch
from torch.nn import functional as F

from widemax.auxiliaries import Reconstruction, auxiliaries
from widemax.errors import ConfigError, ShapeError


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    outputs = 3 * torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    return outputs, torch.rand(4, 2, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["squared_error", "binary_cross_entropy"])
def test_one_number_a_row_that_agrees_with_torch(pair, kind):
    outputs, inputs = pair
    twin = F.mse_loss if kind == "squared_error" else F.binary_cross_entropy_with_logits
    factor = 0.5 if kind == "squared_error" else 1.0
    expected = 0.3 * factor * twin(outputs, inputs, reduction="none").sum((1, 2))
    module = Reconstruction(strength=0.3, kind=kind)
    torch.testing.assert_close(module(outputs, inputs), expected)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, inputs), outputs)
    other = Reconstruction(strength=0.3, kind=({"squared_error", "binary_cross_entropy"} - {kind}).pop())
    assert not torch.allclose(other(outputs, inputs), expected)


def test_extreme_log_odds_stay_finite():
    outputs = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = Reconstruction(kind="binary_cross_entropy")(outputs, torch.tensor([[1, 0], [1, 0]]))
    assert loss.tolist() == [0, 2e4]
    loss.sum().backward()
    assert outputs.grad.tolist() == [[0, 0], [-1, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(pair, dtype):
    outputs, inputs = (x.to(dtype) for x in pair)
    loss = Reconstruction()(outputs, inputs)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, Reconstruction()(outputs.float(), inputs.float()), rtol=0, atol=0)


def test_empty_batch_and_wrong_calls():
    assert Reconstruction()(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)
    with pytest.raises(ShapeError, match=r"got \(2, 4\) and \(2, 3\)"):
        Reconstruction()(torch.zeros(2, 4), torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"\[rows, \.\.\.\]; got \(2,\)"):
        Reconstruction()(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ConfigError, match="option 'kind'"):
        auxiliaries.options("reconstruction").complete({"kind": "absolute_error"})
