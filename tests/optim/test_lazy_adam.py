import math

import pytest
import torch
from torch import Tensor

from widemax.optim import LazyAdam, linear_decay

C, D = 5, 4


def start() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(C, D, generator=torch.Generator().manual_seed(0)).double())


def gradient(seed: int) -> Tensor:
    return torch.randn(C, D, generator=torch.Generator().manual_seed(100 + seed)).double()


def row_gradient(row: int, value: Tensor) -> Tensor:
    return torch.sparse_coo_tensor([[row]], value[None].double(), (C, D), check_invariants=True)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.4])
def test_rows_touched_at_every_step_follow_adamw_under_a_schedule(sparse: bool, weight_decay: float) -> None:
    ours, theirs = start(), start()
    optimizer = LazyAdam([ours], lr=0.05, beta1=0.8, beta2=0.99, weight_decay=weight_decay)
    oracle = torch.optim.AdamW([theirs], lr=0.05, betas=(0.8, 0.99), weight_decay=weight_decay)
    for step in range(30):
        theirs.grad = gradient(step)
        ours.grad = gradient(step).to_sparse(1) if sparse else gradient(step)
        for any_optimizer in (optimizer, oracle):
            any_optimizer.param_groups[0]["lr"] = 0.05 * linear_decay(step, 30, 5)
            any_optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transposed", ["weight", "grad", "neither"])
def test_dense_steps_in_float32_follow_adamw_in_any_layout(transposed: str) -> None:
    ours, theirs = (torch.nn.Parameter(torch.ones(6, 7)) for _ in range(2))
    if transposed == "weight":
        ours = torch.nn.Parameter(torch.ones(7, 6).T)
    optimizer, oracle = LazyAdam([ours], lr=0.05), torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.0)
    for step in range(5):
        theirs.grad = torch.randn(6, 7, generator=torch.Generator().manual_seed(step))
        ours.grad = theirs.grad.T.contiguous().T if transposed == "grad" else theirs.grad
        optimizer.step()
        oracle.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def rates() -> list[float]:
    return [0.02 * linear_decay(step, 60, 6) for step in range(60)]


def rows_at(step: int) -> list[int]:
    """Row 0 always, row 1 twice a batch now and then, row 2 rarely, row 3 once, row 4 never."""
    touched = [0] + [1, 1] * (step % 3 == 1) + [2] * (step % 20 == 13) + [3] * (step == 59)
    return sorted(touched, reverse=True)


def by_hand(decay: str) -> Tensor:
    """AdamW on plain numbers: every row decays at every step, and moves when a gradient touches it.

    Args:
        decay: "every step", or the mistakes "a touch" (skipped steps are forgiven) and "never".
    """
    weight, beta1, beta2, eps, weight_decay = start().detach().clone(), 0.8, 0.99, 1e-8, 0.7
    moment, square, touches = torch.zeros_like(weight), torch.zeros_like(weight), [0] * C
    for step, lr in enumerate(rates()):
        rows = rows_at(step)
        for row in range(C):
            if decay == "every step" or (decay == "a touch" and row in rows):
                weight[row] *= 1 - lr * weight_decay
            if row not in rows:
                continue
            grad = gradient(step)[row] * rows.count(row)
            touches[row] += 1
            moment[row] = beta1 * moment[row] + (1 - beta1) * grad
            square[row] = beta2 * square[row] + (1 - beta2) * grad**2
            corrected = (square[row] / (1 - beta2 ** touches[row])).sqrt() + eps
            weight[row] -= lr * moment[row] / (1 - beta1 ** touches[row]) / corrected
    return weight


def test_rows_touched_now_and_then_follow_adamw_by_hand() -> None:
    weight = start()
    optimizer = LazyAdam([weight], beta1=0.8, beta2=0.99, weight_decay=0.7)
    for step, lr in enumerate(rates()):
        rows = rows_at(step)
        weight.grad = torch.sparse_coo_tensor([rows], gradient(step)[rows], (C, D), check_invariants=True)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    optimizer.catch_up()
    torch.testing.assert_close(weight.detach(), by_hand("every step"), rtol=1e-10, atol=1e-10)
    for mistake in ("a touch", "never"):
        error_C = (weight - by_hand(mistake)).abs().amax(1)
        assert (error_C[1:] > 1e-3).all(), mistake


def test_torch_sparse_adam_is_another_rule() -> None:
    """It corrects the bias by steps, not by touches, and knows no decay."""
    ours, theirs = start(), start()
    optimizer, other = LazyAdam([ours], lr=0.02), torch.optim.SparseAdam([theirs], lr=0.02)
    for step in range(20):
        rows = [0, 1] if step % 5 == 4 else [0]
        ours.grad = torch.sparse_coo_tensor([rows], gradient(step)[rows], (C, D), check_invariants=True)
        theirs.grad = ours.grad
        optimizer.step()
        other.step()
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert (ours[1] - theirs[1]).abs().max() > 1e-3


def test_a_rare_row_decays_in_closed_form_under_any_schedule() -> None:
    weight = start()
    before = weight.detach().clone()
    optimizer = LazyAdam([weight], lr=1.0, weight_decay=0.2)
    rates = [0.5 + 0.4 * math.sin(step) for step in range(101)]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = row_gradient(0, torch.ones(D))
        optimizer.step()
    assert torch.equal(weight[1:], before[1:]), "a sleeping row is not written to"

    optimizer.param_groups[0]["lr"] = 0.0  # so that the waking step itself moves nothing
    weight.grad = row_gradient(1, torch.ones(D))
    optimizer.step()
    decay = math.prod(1 - 0.2 * rate for rate in rates)
    assert 0 < decay < 1e-3
    torch.testing.assert_close(weight[1].detach(), before[1] * decay, rtol=1e-12, atol=0)

    optimizer.catch_up()
    torch.testing.assert_close(weight[2:].detach(), before[2:] * decay, rtol=1e-12, atol=0)
    settled = weight.detach().clone()
    optimizer.catch_up()
    assert torch.equal(weight, settled), "nothing is owed twice"


def test_decay_owed_is_paid_although_weight_decay_was_turned_off() -> None:
    weight = start()
    optimizer = LazyAdam([weight], lr=0.5, weight_decay=0.2)
    for weight_decay in (0.2, 0.0):
        optimizer.param_groups[0]["weight_decay"] = weight_decay
        weight.grad = row_gradient(0, torch.ones(D))
        optimizer.step()
    optimizer.catch_up()
    torch.testing.assert_close(weight[1:].detach(), start()[1:].detach() * 0.9)


def test_a_step_whose_gradient_has_no_rows_still_decays() -> None:
    weight = start()
    optimizer = LazyAdam([weight], lr=0.5, weight_decay=0.2)
    weight.grad = torch.sparse_coo_tensor([[]], gradient(0)[:0], (C, D), check_invariants=True)
    optimizer.step()
    optimizer.catch_up()
    torch.testing.assert_close(weight.detach(), start().detach() * 0.9)


def test_the_first_touch_takes_a_step_of_size_lr_however_late() -> None:
    weight = start()
    before = weight.detach().clone()
    optimizer = LazyAdam([weight], lr=0.01)
    for _ in range(200):
        weight.grad = row_gradient(0, torch.ones(D))
        optimizer.step()
    weight.grad = row_gradient(3, torch.tensor([5.0, -5.0, 0.1, -0.1]))
    optimizer.step()
    torch.testing.assert_close(
        before[3] - weight[3], 0.01 * torch.tensor([1.0, -1.0, 1.0, -1.0]).double(), rtol=1e-4, atol=0
    )


def test_a_rare_row_equals_a_row_trained_alone_without_the_pauses() -> None:
    """Without weight decay a pause changes nothing at all."""
    rare, alone = start(), start()
    rare_optimizer, alone_optimizer = (
        LazyAdam([rare], lr=0.1),
        torch.optim.AdamW([alone], lr=0.1, weight_decay=0),
    )
    for step in range(40):
        if step % 7 == 0:
            alone.grad = gradient(step)
            alone_optimizer.step()
        rare.grad = row_gradient(2, gradient(step)[2]) if step % 7 == 0 else row_gradient(0, torch.ones(D))
        rare_optimizer.step()
    torch.testing.assert_close(rare[2], alone[2], rtol=1e-10, atol=1e-10)


def test_counters_keep_their_dtype_through_a_state_dict() -> None:
    weight = start()
    optimizer = LazyAdam([weight])
    weight.grad = gradient(0)
    optimizer.step()
    other = LazyAdam([start()])
    other.load_state_dict(optimizer.state_dict())
    (state,) = other.state.values()
    assert state["touches"].dtype == torch.int32
    assert state["applied_log_decay"].dtype == torch.float64
