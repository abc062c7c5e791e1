"""Center loss: the update of the paper, its cost, and its state. Shapes: B rows, D hidden, C classes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch.utils._python_dispatch import TorchDispatchMode

from widemax.auxiliaries import CenterLoss, auxiliaries
from widemax.errors import ConfigError, LabelError, ShapeError

C, D = 6, 3
LABELS = torch.tensor([4, 1, 4, 4, 0])


def some_hidden(num_rows, seed=0):
    return torch.randn(num_rows, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some_center_loss(**options):
    module = CenterLoss(C, D, **options).double()
    module.centers.copy_(some_hidden(C, seed=1))
    return module


# What the centers become, by equation 4 and by three mistaken forms of it.


def moved_by_the_paper(centers, hidden, labels, rate):
    centers = centers.copy()
    before = centers.copy()
    for j in range(len(centers)):
        members = hidden[labels == j]
        centers[j] -= rate * (before[j] - members).sum(0) / (1 + len(members))
    return centers


def moved_row_by_row(centers, hidden, labels, rate):
    centers = centers.copy()
    for h, y in zip(hidden, labels, strict=True):
        centers[y] -= rate * (centers[y] - h) / 2
    return centers


def moved_to_the_mean(centers, hidden, labels, rate):
    centers = centers.copy()
    for j in set(labels):
        centers[j] -= rate * (centers[j] - hidden[labels == j]).mean(0)
    return centers


def moved_by_the_last_duplicate(centers, hidden, labels, rate):
    counts = np.bincount(labels, minlength=len(centers))
    moved = centers.copy()
    moved[labels] = centers[labels] - rate * (centers[labels] - hidden) / (1 + counts[labels])[:, None]
    return moved


@given(
    labels=st.lists(st.integers(0, C - 1), max_size=12),
    rate=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_centers_move_as_in_the_paper(labels, rate, seed):
    module, hidden = some_center_loss(rate=rate), some_hidden(len(labels), seed)
    labels = torch.tensor(labels, dtype=torch.long)
    expected = moved_by_the_paper(module.centers.numpy(), hidden.numpy(), labels.numpy(), rate)
    module(hidden, labels)
    np.testing.assert_allclose(module.centers, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrong", [moved_row_by_row, moved_to_the_mean, moved_by_the_last_duplicate])
def test_mistaken_updates_are_found(wrong):
    module, hidden = some_center_loss(rate=0.5), some_hidden(5)
    mistaken = wrong(module.centers.numpy(), hidden.numpy(), LABELS.numpy(), 0.5)
    module(hidden, LABELS)
    assert not np.allclose(module.centers, mistaken, rtol=1e-3)


# The loss.


def test_loss_is_taken_before_the_centers_move():
    module, hidden = some_center_loss(strength=0.2), some_hidden(5)
    before = module.centers.clone()
    expected = 0.1 * ((hidden - before[LABELS]) ** 2).sum(1)
    torch.testing.assert_close(module(hidden, LABELS), expected)
    after = 0.1 * ((hidden - module.centers[LABELS]) ** 2).sum(1)
    assert not torch.allclose(after, expected)


def test_gradient_pulls_hidden_vectors_to_their_centers():
    module, hidden = some_center_loss(strength=0.2), some_hidden(5).requires_grad_()
    before = module.centers.clone()
    (gradient,) = torch.autograd.grad(module(hidden, LABELS).sum(), hidden)
    torch.testing.assert_close(gradient, 0.2 * (hidden - before[LABELS]).detach())
    module.eval()
    assert torch.autograd.gradcheck(lambda h: module(h, LABELS), hidden)
    assert torch.autograd.gradgradcheck(lambda h: module(h, LABELS), hidden)
    assert not list(module.parameters())
    assert not module.centers.requires_grad


def test_centers_move_in_training_mode_only():
    module, hidden = some_center_loss(), some_hidden(5)
    before = module.centers.clone()
    module.eval()
    module(hidden, LABELS)
    assert torch.equal(module.centers, before)
    module.train()
    module(hidden, LABELS)
    assert torch.equal(module.centers[[2, 3, 5]], before[[2, 3, 5]])
    assert not torch.equal(module.centers[[0, 1, 4]], before[[0, 1, 4]])


def test_ignored_rows_cost_and_move_nothing():
    module, hidden = some_center_loss(), some_hidden(5)
    few = some_center_loss()
    hidden[1] = torch.inf
    hidden.requires_grad_()
    labels = LABELS.masked_fill(LABELS == 1, -100)
    loss = module(hidden, labels)
    (gradient,) = torch.autograd.grad(loss.sum(), hidden)
    assert loss[1] == 0
    assert gradient[1].tolist() == [0] * D
    few(hidden.detach()[[0, 2, 3, 4]], LABELS[[0, 2, 3, 4]])
    torch.testing.assert_close(module.centers, few.centers)


def test_no_rows():
    module = some_center_loss()
    before = module.centers.clone()
    assert module(some_hidden(0), LABELS[:0]).shape == (0,)
    assert torch.equal(module.centers, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    module, exact = CenterLoss(C, D), CenterLoss(C, D)
    hidden = some_hidden(5).to(dtype)
    loss = module(hidden, LABELS)
    assert loss.dtype == module.centers.dtype == torch.float32
    torch.testing.assert_close(loss, exact(hidden.float(), LABELS), rtol=0, atol=0)
    assert torch.equal(module.centers, exact.centers)


# Cost.


class LargestResult(TorchDispatchMode):
    """Remembers the most elements that any operation newly made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {arg.data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.data_ptr() not in known:
                self.elements = max(self.elements, tensor.numel())
        return result


def largest_result(function):
    with LargestResult() as mode:
        function()
    return mode.elements


def test_a_step_makes_nothing_as_long_as_the_classes():
    module = CenterLoss(100_000, D)
    hidden, labels = torch.randn(8, D, requires_grad=True), torch.tensor([9, 9, 9, 5, 99_999, 0, 5, 7])
    assert largest_result(lambda: module(hidden, labels).sum().backward()) <= 8 * D
    assert largest_result(lambda: labels.bincount(minlength=100_000)) == 100_000


# State.


def test_a_restored_module_goes_on_as_if_nothing_had_happened():
    module = some_center_loss(rate=0.3)
    module(some_hidden(5), LABELS)
    saved = save(module.state_dict())
    restored = CenterLoss(C, D, rate=0.3).double()
    restored.load_state_dict(load(saved))
    losses = [m(some_hidden(5, seed=7), LABELS) for m in (module, restored)]
    assert torch.equal(*losses)
    assert torch.equal(module.centers, restored.centers)
    fresh = CenterLoss(C, D, rate=0.3).double()
    assert not torch.equal(fresh(some_hidden(5, seed=7), LABELS), losses[0])


# Mistakes of the caller.


def test_labels_and_hidden_vectors_must_fit():
    module = CenterLoss(C, D)
    with pytest.raises(LabelError, match=r"\[0, 6\); got 6 at row 1\. .*ignore_index=6"):
        module(torch.zeros(2, D), torch.tensor([0, 6]))
    with pytest.raises(LabelError, match="got -1 at row 0"):
        module(torch.zeros(2, D), torch.tensor([-1, 0]))
    with pytest.raises(ShapeError, match=r"\[rows, 3\]; got \(2, 4\)"):
        module(torch.zeros(2, 4), torch.tensor([0, 1]))
    for labels in (torch.zeros(2), torch.zeros(3, dtype=torch.long)):
        with pytest.raises(ShapeError, match="must be 2 class ids"):
            module(torch.zeros(2, D), labels)
    assert torch.equal(module.centers, torch.zeros(C, D))


@pytest.mark.parametrize("options", [{"rate": 1.5}, {"rate": -0.1}, {"strength": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=f"option '{next(iter(options))}'"):
        auxiliaries.options("center_loss").complete(options)


def test_registry_knows_the_members():
    assert auxiliaries.names() == ["center_loss", "reconstruction"]
    assert auxiliaries["center_loss"] is CenterLoss
