import math

import pytest
import torch
from torch import Tensor

from widemax.optim import LazyAdam, linear_decay

C, D = 5, 4


def start() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(C, D, generator=torch.Generator().manual_seed(0)))


def gradient(seed: int) -> Tensor:
    return torch.randn(C, D, generator=torch.Generator().manual_seed(100 + seed))


def row_gradient(row: int, value: Tensor) -> Tensor:
    return torch.sparse_coo_tensor([[row]], value[None], (C, D), check_invariants=True)


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_touched_at_every_step_follow_adamw_under_a_schedule(sparse: bool) -> None:
    ours, theirs = start(), start()
    optimizer = LazyAdam([ours], lr=0.05, beta1=0.8, beta2=0.99, weight_decay=0.4)
    oracle = torch.optim.AdamW([theirs], lr=0.05, betas=(0.8, 0.99), weight_decay=0.4)
    for step in range(30):
        theirs.grad = gradient(step)
        ours.grad = gradient(step).to_sparse(1) if sparse else gradient(step)
        for any_optimizer in (optimizer, oracle):
            any_optimizer.param_groups[0]["lr"] = 0.05 * linear_decay(step, 30, 5)
            any_optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_rare_row_decays_in_closed_form_under_any_schedule() -> None:
    weight = start()
    before = weight.detach().double()
    optimizer = LazyAdam([weight], lr=1.0, weight_decay=0.2)
    rates = [0.5 + 0.4 * math.sin(step) for step in range(101)]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = row_gradient(0, torch.ones(D))
        optimizer.step()
    assert torch.equal(weight[1:].double(), before[1:]), "a sleeping row is not written to"

    optimizer.param_groups[0]["lr"] = 0.0  # so that the waking step itself moves nothing
    weight.grad = row_gradient(1, torch.ones(D))
    optimizer.step()
    decay = math.prod(1 - 0.2 * rate for rate in rates)
    assert 0 < decay < 1e-3
    torch.testing.assert_close(weight[1].double(), before[1] * decay, rtol=1e-6, atol=0)

    optimizer.catch_up()
    torch.testing.assert_close(weight[2:].double(), before[2:] * decay, rtol=1e-6, atol=0)
    settled = weight.detach().clone()
    optimizer.catch_up()
    assert torch.equal(weight, settled), "nothing is owed twice"


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
        before[3] - weight[3], torch.tensor([0.01, -0.01, 0.01, -0.01]), rtol=1e-4, atol=0
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
    torch.testing.assert_close(rare[2], alone[2], rtol=1e-5, atol=1e-6)


def test_counters_keep_their_dtype_through_a_state_dict() -> None:
    weight = start()
    optimizer = LazyAdam([weight])
    weight.grad = gradient(0)
    optimizer.step()
    other = LazyAdam([start()])
    other.load_state_dict(optimizer.state_dict())
    (state,) = other.state.values()
    assert state["touches"].dtype == torch.int32
    assert state["paid_log_decay"].dtype == torch.float64
