"""The state of a parameter follows its rows when classes are added or removed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from widemax.errors import ShapeError, UsageError
from widemax.optim import RowOptimizer, optimizers

C, D = 6, 3
OPTIONS: dict[str, dict[str, Any]] = {
    "rowwise_adagrad": {"lr": 0.5, "weight_decay": 0.1},
    "lazy_adam": {"lr": 0.05, "weight_decay": 0.3},
    "momentum": {"lr": 0.1, "momentum": 0.8},
}


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def build(name: str) -> tuple[list[torch.nn.Parameter], RowOptimizer]:
    """A matrix and a bias."""
    weights = [torch.nn.Parameter(numbers(C, D, seed=0)), torch.nn.Parameter(numbers(C, seed=1))]
    return weights, optimizers[name](weights, **OPTIONS[name])


def train(weights: list[torch.nn.Parameter], optimizer: RowOptimizer, steps: range, *, at: list[int]) -> None:
    """Sparse steps on classes 0, 2 and 5, found at rows ``at`` now; each step touches two of them."""
    for step in steps:
        rows = [at[step % 3], at[(step + 1) % 3]]
        for weight in weights:
            values = numbers(2, *weight.shape[1:], seed=100 + step)
            weight.grad = torch.sparse_coo_tensor([rows], values, weight.shape, check_invariants=True)
        optimizer.step()


def replace(
    weights: list[torch.nn.Parameter], optimizer: RowOptimizer, kept: list[int], num_new: int
) -> None:
    for weight in weights:
        weight.data = torch.cat([weight.data[kept], torch.ones(num_new, *weight.shape[1:]).double()])
        optimizer.resize(weight, torch.tensor(kept, dtype=torch.int64), num_new)


CHANGES = {
    "extend": (list(range(C)), 3),
    "remove": ([0, 2, 5], 0),
    "reorder": ([5, 4, 2, 0, 1], 0),
    "both": ([2, 0, 5, 3], 2),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_old_rows_move_as_if_nothing_had_changed(name: str, change: str) -> None:
    kept, num_new = CHANGES[change]
    at = [kept.index(old) for old in (0, 2, 5)]
    plain, plain_optimizer = build(name)
    changed, optimizer = build(name)
    forgetful, other = build(name)
    for weights, any_optimizer in ((plain, plain_optimizer), (changed, optimizer), (forgetful, other)):
        train(weights, any_optimizer, range(10), at=[0, 2, 5])
    replace(changed, optimizer, kept, num_new)
    replace(forgetful, other, kept, num_new)
    other.state.clear()
    train(plain, plain_optimizer, range(10, 20), at=[0, 2, 5])
    for weights, any_optimizer in ((changed, optimizer), (forgetful, other)):
        train(weights, any_optimizer, range(10, 20), at=at)
    for any_optimizer in (plain_optimizer, optimizer, other):
        any_optimizer.catch_up()
    for weight, expected, forgot in zip(changed, plain, forgetful, strict=True):
        assert torch.equal(weight[: len(kept)], expected[kept])
        assert not torch.allclose(forgot[: len(kept)], expected[kept]), "the state is what makes them move so"


@pytest.mark.parametrize("name", OPTIONS)
def test_new_rows_owe_nothing_and_then_take_a_first_step(name: str) -> None:
    weights, optimizer = build(name)
    train(weights, optimizer, range(10), at=[0, 2, 5])
    replace(weights, optimizer, list(range(C)), 2)
    optimizer.catch_up()
    assert all((weight[C:] == 1).all() for weight in weights)

    first, first_optimizer = build(name)
    for weight in first:
        weight.data.fill_(1.0)
    for any_weights, any_optimizer, row in ((weights, optimizer, C), (first, first_optimizer, 0)):
        for weight in any_weights:
            value = torch.full((1, *weight.shape[1:]), 0.25).double()
            weight.grad = torch.sparse_coo_tensor([[row]], value, weight.shape, check_invariants=True)
        any_optimizer.step()
    for weight, expected in zip(weights, first, strict=True):
        torch.testing.assert_close(weight[C], expected[0], rtol=1e-12, atol=0)


def test_rows_with_the_counters_of_step_0_would_owe_decay() -> None:
    weights, optimizer = build("lazy_adam")
    train(weights, optimizer, range(10), at=[0, 2, 5])
    replace(weights, optimizer, list(range(C)), 2)
    optimizer.state[weights[0]]["applied_log_decay"][C:] = 0.0
    optimizer.catch_up()
    assert (weights[0][C:] < 0.9).all()


@pytest.mark.parametrize(
    ("name", "of_rows", "present"),
    [
        ("lazy_adam", "applied_log_decay", "log_decay"),
        ("momentum", "last_step", "step"),
    ],
)
def test_counters_of_new_rows_stand_at_the_present(name: str, of_rows: str, present: str) -> None:
    weights, optimizer = build(name)
    train(weights, optimizer, range(10), at=[0, 2, 5])
    replace(weights, optimizer, list(range(C)), 2)
    state = optimizer.state[weights[0]]
    assert (state[of_rows][C:] == state[present]).all()
    assert state[of_rows][1] == 0, "an untouched old row still has all its updates deferred"


@pytest.mark.parametrize("name", OPTIONS)
def test_kept_state_is_bitwise_and_numbers_stay(name: str) -> None:
    weights, optimizer = build(name)
    train(weights, optimizer, range(5), at=[0, 2, 5])
    before = dict(optimizer.state[weights[0]])
    replace(weights, optimizer, [5, 1], 4)
    after = optimizer.state[weights[0]]
    assert after.keys() == before.keys()
    for key, value in before.items():
        if not isinstance(value, Tensor):
            assert after[key] == value
            continue
        assert after[key].dtype == value.dtype
        assert after[key].shape == (6, *value.shape[1:])
        assert torch.equal(after[key][:2], value[[5, 1]])


@pytest.mark.parametrize("name", OPTIONS)
def test_without_state_yet_there_is_nothing_to_do(name: str) -> None:
    weights, optimizer = build(name)
    replace(weights, optimizer, [0, 2, 5], 1)
    assert not optimizer.state_dict()["state"].get(0)
    train(weights, optimizer, range(3), at=[0, 1, 2])
    assert all(weight.isfinite().all() for weight in weights)


@pytest.mark.parametrize("name", OPTIONS)
def test_bfloat16_keeps_its_state_in_float32(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(C, D, dtype=torch.bfloat16))
    optimizer = optimizers[name]([weight], **OPTIONS[name])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    seed = optimizer.state[weight]["rounding_seed"]
    weight.data = torch.cat([weight.data[1:], torch.ones(2, D, dtype=torch.bfloat16)])
    optimizer.resize(weight, torch.arange(1, C), 2)
    assert weight.grad is None, "it was one of the old rows"
    state = optimizer.state[weight]
    assert state["rounding_seed"] == seed
    assert all(len(value) == C + 1 for value in state.values() if isinstance(value, Tensor))
    assert torch.bfloat16 not in {value.dtype for value in state.values() if isinstance(value, Tensor)}


def test_mistakes_are_named() -> None:
    weights, optimizer = build("momentum")
    train(weights, optimizer, range(2), at=[0, 2, 5])
    with pytest.raises(ShapeError, match="2 kept rows and 1 new ones; got 6"):
        optimizer.resize(weights[0], torch.tensor([0, 1]), 1)
    with pytest.raises(UsageError, match="one of this optimizer"):
        optimizer.resize(torch.nn.Parameter(torch.zeros(3)), torch.tensor([0, 1]), 1)
    for rows in ([0, C], [-1, 0]):
        weights[0].data = torch.zeros(2, D).double()
        with pytest.raises(UsageError, match=r"kept_rows must lie in \[0, 6\)"):
            optimizer.resize(weights[0], torch.tensor(rows), 0)
