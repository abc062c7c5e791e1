"""The fused losses equal the weighted sum of their plain twins, in value and gradient."""

import pytest
import torch
from wide_layer import B, C, D, layer, targets

from widemax.kernels import (
    Pairs,
    SkippedTiles,
    fused,
    fused_binary_cross_entropy,
    fused_cross_entropy,
    plain_binary_cross_entropy,
    plain_cross_entropy,
)

ROW_WEIGHTS = torch.linspace(0.5, 2, B, dtype=torch.float64)
CASES = [
    (plain_cross_entropy, fused_cross_entropy, {}),
    (plain_cross_entropy, fused_cross_entropy, {"temperature": 0.3, "label_smoothing": 0.1}),
    (plain_binary_cross_entropy, fused_binary_cross_entropy, {}),
    (plain_binary_cross_entropy, fused_binary_cross_entropy, {"temperature": 2.0}),
]
every_case = pytest.mark.parametrize(("plain", "fast", "options"), CASES)


@pytest.fixture(params=[(1, 1), (4 * C, 5), (2**24, 1000)], ids="chunks={0[0]} width={0[1]}".format)
def cut(request, monkeypatch):
    """Chunks of rows and tiles of classes of several sizes; 8 rows is the least with 4 hidden."""
    kept, width = request.param
    monkeypatch.setattr(fused, "KEPT_ELEMENTS", kept)
    monkeypatch.setattr(fused, "MIN_TILE_WIDTH", width)
    monkeypatch.setattr(fused, "TILE_ELEMENTS", 1)


def many(tensors, times=4):
    """More rows than a chunk: those of the layer several times over, never quite the same."""
    hidden, weight, bias = tensors
    shift = torch.linspace(-0.5, 0.5, times * B, dtype=hidden.dtype)[:, None]
    return [(hidden.detach().repeat(times, 1) + shift).requires_grad_(), weight, bias]


def many_targets(times=4):
    pairs, weights = targets()
    rows = torch.cat([pairs.rows_P + B * n for n in range(times)])
    return Pairs(rows, pairs.ids_P.repeat(times)), weights.repeat(times)


def by_plain(plain, tensors, options):
    loss = (plain(*tensors, *many_targets(), **options) * ROW_WEIGHTS.repeat(4)).sum()
    return loss, *torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None])


def by_fused(fast, tensors, options):
    loss = fast(*tensors, *many_targets(), ROW_WEIGHTS.repeat(4), **options)
    return loss, *torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None])


@pytest.mark.parametrize("with_bias", [True, False])
@every_case
def test_equals_the_plain_twin(cut, plain, fast, options, with_bias):
    hidden, weight, bias = many(layer())
    tensors = [hidden, weight, bias if with_bias else None]
    expected = by_plain(plain, tensors, options)
    for one, other in zip(by_fused(fast, tensors, options), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@every_case
def test_extreme_logits_stay_accurate(cut, plain, fast, options):
    exact = by_plain(plain, many(layer(scale=1e4)), options)
    narrow = [tensor.detach().float().requires_grad_() for tensor in many(layer(scale=1e4))]
    for one, other in zip(by_fused(fast, narrow, options), exact, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-2 * other.abs().max().item())


@pytest.mark.parametrize(("plain", "fast", "options"), [CASES[0], CASES[2], CASES[3]])
def test_a_masked_class_has_no_gradient(cut, plain, fast, options):
    tensors = many(layer())
    with torch.no_grad():
        tensors[2][[1, 20]] = -torch.inf
    for one, other in zip(by_fused(fast, tensors, options), by_plain(plain, tensors, options), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("fast", [fused_cross_entropy, fused_binary_cross_entropy])
def test_frozen_inputs_receive_nothing(cut, fast, frozen):
    tensors = layer()
    tensors[frozen].requires_grad_(False)
    fast(*tensors, *targets(), ROW_WEIGHTS).backward()
    assert [tensor.grad is None for tensor in tensors] == [index == frozen for index in range(3)]


def test_backward_again_and_scaled(cut):
    hidden, weight, bias = layer()
    loss = fused_cross_entropy(hidden, weight, bias, *targets(), ROW_WEIGHTS)
    first = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    again = torch.autograd.grad(3 * loss, weight, retain_graph=True)[0]
    torch.testing.assert_close(again, 3 * first)
    for _ in range(2):
        loss.backward(retain_graph=True)
    torch.testing.assert_close(weight.grad, 2 * first)


@every_case
def test_gradients_have_gradients(monkeypatch, plain, fast, options):
    monkeypatch.setattr(fused, "MIN_TILE_WIDTH", 10)
    monkeypatch.setattr(fused, "TILE_ELEMENTS", 1)

    def loss(*tensors):
        return fast(*tensors, *targets(), ROW_WEIGHTS, **options)

    assert torch.autograd.gradcheck(loss, layer())
    assert torch.autograd.gradgradcheck(loss, layer())


@pytest.mark.parametrize(("plain", "fast"), [CASES[0][:2], CASES[2][:2]])
def test_bfloat16_is_as_accurate_as_the_plain_form(cut, plain, fast):
    tensors = [tensor.detach().bfloat16().requires_grad_() for tensor in many(layer())]
    exact = by_plain(plain, [tensor.detach().double().requires_grad_() for tensor in tensors], {})
    allowed = by_plain(plain, tensors, {})
    for one, other, truth in zip(by_fused(fast, tensors, {}), allowed, exact, strict=True):
        error, by_twin = ((x.double() - truth).abs().max() for x in (one, other))
        assert error <= 2 * by_twin + 1e-2 * truth.abs().max()


def test_a_confident_row_keeps_its_small_gradient_in_bfloat16():
    # p(label) = 1 − 2e-4 rounds to 1 in bfloat16: kept as p − 1, the gradient would vanish.
    hidden = torch.tensor([[1.0]], dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[8.5], [0.0]], dtype=torch.bfloat16, requires_grad=True)
    label = Pairs(torch.tensor([0]), torch.tensor([0])), torch.ones(1)
    fused_cross_entropy(hidden, weight, None, *label, torch.ones(1)).backward()
    expected = torch.sigmoid(torch.tensor(-8.5))
    torch.testing.assert_close(weight.grad[0, 0].float(), -expected, rtol=1e-2, atol=0)


def test_empty_batch():
    nothing = Pairs(torch.arange(0), torch.arange(0))
    hidden = torch.zeros(0, D, requires_grad=True)
    weight = torch.zeros(C, D, requires_grad=True)
    loss = fused_cross_entropy(hidden, weight, None, nothing, torch.zeros(0), torch.zeros(0))
    loss.backward()
    assert loss == 0
    assert weight.grad.abs().sum() == 0


def sure_layer(num_classes=200, num_rows=30):
    """Rows that point at their labels: nearly all probability is there."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(num_classes, 16, dtype=torch.float64, generator=generator)
    weight = 5 * torch.nn.functional.normalize(weight, dim=1)
    labels = torch.randint(num_classes, (num_rows,), generator=generator)
    pairs = Pairs(torch.arange(num_rows), labels), torch.ones(num_rows)
    return weight[labels].requires_grad_(), weight.requires_grad_(), pairs


@pytest.mark.parametrize("allowed", [1e-4, 1e-2, 0.3])
def test_what_is_skipped_stays_within_the_bound(monkeypatch, allowed):
    monkeypatch.setattr(fused, "KEPT_ELEMENTS", 1)
    monkeypatch.setattr(fused, "MIN_TILE_WIDTH", 10)
    monkeypatch.setattr(fused, "TILE_ELEMENTS", 1)
    hidden, weight, targets = sure_layer()
    row_weights = torch.ones(len(hidden))
    skipped = SkippedTiles(allowed)
    loss = fused_cross_entropy(hidden, weight, None, *targets, row_weights, skipped=skipped)
    exact = fused_cross_entropy(hidden, weight, None, *targets, row_weights)
    assert loss == exact
    assert 0 < skipped.dropped_mass <= allowed
    assert 0 < skipped.fraction <= 1
    found, truth = (torch.autograd.grad(x, hidden)[0] for x in (loss, exact))
    # What is dropped is a sum of probabilities times weights of classes.
    largest = torch.linalg.vector_norm(weight, dim=1).max()
    error_B = torch.linalg.vector_norm(found - truth, dim=1)
    assert (error_B <= skipped.dropped_mass * largest).all()
    assert error_B.max() > 0


def test_an_unsure_batch_skips_nothing():
    hidden, weight, bias = layer()
    skipped = SkippedTiles(1e-6)
    fused_cross_entropy(hidden, weight, bias, *targets(), ROW_WEIGHTS, skipped=skipped).backward()
    assert skipped == SkippedTiles(1e-6, 0.0, 0.0)
