"""Laws every registered optimizer obeys."""

import copy
import gc
import json
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from widemax.errors import ConfigError, ShapeError
from widemax.optim import RowOptimizer, linear_decay, optimizers

C, D = 7, 3
MEMBERS = {
    "rowwise_adagrad": {"lr": 0.5, "weight_decay": 0.1},
    "lazy_adam": {"lr": 0.05, "weight_decay": 0.3},
    "momentum": {"lr": 0.1, "momentum": 0.8},
}


def parameter(*shape: int, seed: int = 0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def rows_grad(rows: list[int], values: Tensor, *, coalesced: bool = False) -> Tensor:
    grad = torch.sparse_coo_tensor([rows], values, (C, *values.shape[1:]), check_invariants=True)
    return grad.coalesce() if coalesced else grad


def gradients(steps: int, *shape: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(steps)]


def test_every_member_is_tested_here() -> None:
    assert set(MEMBERS) <= set(optimizers.names())


@pytest.mark.parametrize("name", MEMBERS)
def test_options_come_from_the_signature(name: str) -> None:
    assert optimizers.options(name).complete({"lr": 0.25})["lr"] == 0.25
    with pytest.raises(ConfigError, match="no option"):
        optimizers.options(name).complete({"learning": 0.25})


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("shape", [(C, D), (C,), (C, 2, 2)])
def test_a_sparse_gradient_of_all_rows_moves_as_the_dense_one(name: str, shape: tuple[int, ...]) -> None:
    dense, sparse = parameter(*shape), parameter(*shape)
    optimizer_dense = optimizers[name]([dense], **MEMBERS[name])
    optimizer_sparse = optimizers[name]([sparse], **MEMBERS[name])
    order = [3, 1, 0, 6, 2, 5, 4]
    for grad in gradients(4, *shape):
        dense.grad, sparse.grad = grad, rows_grad(order, grad[order])
        optimizer_dense.step()
        optimizer_sparse.step()
    assert not torch.equal(dense, parameter(*shape))
    torch.testing.assert_close(sparse, dense, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("coalesced", [True, False])
def test_other_rows_stay_bitwise(name: str, coalesced: bool) -> None:
    weight = parameter(C, D)
    before = weight.detach().clone()
    optimizer = optimizers[name]([weight], **MEMBERS[name])
    for grad in gradients(3, 2, D):
        weight.grad = rows_grad([5, 2], grad, coalesced=coalesced)
        optimizer.step()
    moved = [row for row in range(C) if not torch.equal(weight[row], before[row])]
    assert moved == [2, 5]


@pytest.mark.parametrize("name", MEMBERS)
def test_duplicates_are_summed_before_the_update(name: str) -> None:
    (values,) = gradients(1, 3, D)
    twice, once = parameter(C, D), parameter(C, D)
    twice.grad = rows_grad([4, 1, 4], values)
    once.grad = rows_grad([1, 4], torch.stack([values[1], values[0] + values[2]]), coalesced=True)
    for weight in (twice, once):
        optimizers[name]([weight], **MEMBERS[name]).step()
    assert torch.equal(twice, once)

    one_after_another = parameter(C, D)
    optimizer = optimizers[name]([one_after_another], **MEMBERS[name])
    for row, value in zip([4, 1, 4], values, strict=True):
        one_after_another.grad = rows_grad([row], value[None])
        optimizer.step()
    assert not torch.allclose(one_after_another[4], once[4])


def run(optimizer: RowOptimizer, weights: list[torch.nn.Parameter], first: int, last: int) -> None:
    for step in range(first, last):
        matrix, bias = weights
        matrix.grad = rows_grad([step % C, (3 * step) % C], gradients(1, 2, D, seed=step)[0])
        bias.grad = gradients(1, C, seed=step)[0]
        optimizer.param_groups[0]["lr"] = 0.05 * linear_decay(step, 20, 4)
        optimizer.step()


@pytest.mark.parametrize("name", MEMBERS)
def test_a_loaded_state_resumes_bitwise(name: str) -> None:
    def build() -> tuple[list[torch.nn.Parameter], RowOptimizer]:
        weights = [parameter(C, D), parameter(C, seed=2)]
        return weights, optimizers[name](weights, **MEMBERS[name])

    straight, optimizer = build()
    run(optimizer, straight, 0, 12)
    optimizer.catch_up()

    interrupted, first_half = build()
    run(first_half, interrupted, 0, 5)
    resumed, second_half = build()
    for new, old in zip(resumed, interrupted, strict=True):
        new.data.copy_(old.data)
    saved = copy.deepcopy(first_half.state_dict())
    second_half.load_state_dict(first_half.state_dict())
    run(second_half, resumed, 5, 12)
    second_half.catch_up()

    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))
    for state, kept in zip(first_half.state.values(), saved["state"].values(), strict=True):
        for key, value in kept.items():
            assert not isinstance(value, Tensor) or torch.equal(state[key], value), (
                "the source was written to"
            )


@pytest.mark.parametrize("name", MEMBERS)
def test_the_state_is_tensors_and_numbers(name: str) -> None:
    weights = [parameter(C, D), parameter(C)]
    optimizer = optimizers[name](weights, **MEMBERS[name])
    run(optimizer, weights, 0, 2)
    saved = optimizer.state_dict()
    json.dumps(saved["param_groups"])
    values = [value for state in saved["state"].values() for value in state.values()]
    assert all(isinstance(value, Tensor | int | float) for value in values)


def test_a_state_of_another_shape_is_refused() -> None:
    small, large = parameter(C, D), parameter(C + 1, D)
    optimizer = optimizers["rowwise_adagrad"]([small])
    small.grad = gradients(1, C, D)[0]
    optimizer.step()
    with pytest.raises(ShapeError, match=r"must hold .*\(8,\).*; got .*\(7,\)"):
        optimizers["rowwise_adagrad"]([large]).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("name", MEMBERS)
def test_scalars_closures_and_missing_gradients(name: str) -> None:
    scalar, idle = torch.nn.Parameter(torch.tensor(2.0)), parameter(C)
    before = idle.detach().clone()
    optimizer = optimizers[name]([scalar, idle], **MEMBERS[name])

    def closure() -> Any:
        optimizer.zero_grad()
        loss = scalar.square()
        loss.backward()
        return loss.detach()

    assert optimizer.step(closure) == 4.0
    optimizer.catch_up()
    assert scalar < 2.0
    assert torch.equal(idle, before)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_first_gradient_without_rows_moves_nothing(name: str) -> None:
    weight = parameter(C, D)
    optimizer = optimizers[name]([weight], **MEMBERS[name])
    weight.grad = rows_grad([], torch.zeros(0, D))
    optimizer.step()
    assert torch.equal(weight, parameter(C, D))
    weight.grad = rows_grad([4], torch.ones(1, D))
    optimizer.step()
    assert (weight != parameter(C, D)).any(1).nonzero().flatten().tolist() == [4]


LIKE_DENSE_ZEROS: dict[str, dict[str, float]] = {
    "momentum": {"lr": 0.1, "momentum": 0.8},
    "rowwise_adagrad": {"lr": 0.5, "weight_decay": 0.0},
}
"""Members, and options, for which a row without gradient and one with gradient 0 are the same."""


def dense_zeros_agree(name: str, options: dict[str, float]) -> bool:
    sparse, dense = (torch.nn.Parameter(parameter(C, D).detach().double()) for _ in range(2))
    optimizer_sparse, optimizer_dense = (optimizers[name]([w], **options) for w in (sparse, dense))
    for step, grad in enumerate(gradients(12, 2, D)):
        rows = [step % C, (3 * step + 1) % C]
        sparse.grad = rows_grad(rows, grad.double())
        dense.grad = sparse.grad.to_dense()
        optimizer_sparse.step()
        optimizer_dense.step()
    optimizer_sparse.catch_up()
    return torch.allclose(sparse, dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LIKE_DENSE_ZEROS)
def test_a_sparse_step_is_a_dense_one_with_zeros_elsewhere(name: str) -> None:
    assert dense_zeros_agree(name, LIKE_DENSE_ZEROS[name])


@pytest.mark.parametrize("name", ["lazy_adam", "rowwise_adagrad"])
def test_a_gradient_of_zero_is_a_touch_where_that_is_what_is_said(name: str) -> None:
    assert not dense_zeros_agree(name, MEMBERS[name])


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("shape", [(), (C,), (C, D)])
def test_float64_stays_float64_and_finite(name: str, shape: tuple[int, ...]) -> None:
    weight = torch.nn.Parameter(parameter(*shape).detach().double())
    optimizer = optimizers[name]([weight], **MEMBERS[name])
    for grad in [
        torch.zeros(shape),
        *gradients(3, *shape),
        torch.full(shape, 1e-30),
        torch.full(shape, 1e30),
    ]:
        weight.grad = grad.double()
        optimizer.step()
        optimizer.catch_up()
        assert weight.isfinite().all()
    floats = [v for v in optimizer.state[weight].values() if isinstance(v, Tensor) and v.is_floating_point()]
    assert {value.dtype for value in floats} == {torch.float64}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_scalar_a_row_and_a_column_move_alike(name: str) -> None:
    weights = [torch.nn.Parameter(torch.full(shape, 2.0)) for shape in [(), (1,), (1, 1)]]
    optimizer = optimizers[name](weights, **MEMBERS[name])
    for value in (0.5, -0.25, 3.0):
        for weight in weights:
            weight.grad = torch.full_like(weight, value)
        optimizer.step()
    scalar, row, column = (weight.item() for weight in weights)
    assert scalar == row == pytest.approx(column, rel=1e-6)
    assert scalar != 2.0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rowwise_adagrad", {"lr": -1.0}),
        ("rowwise_adagrad", {"eps": -1.0}),
        ("rowwise_adagrad", {"lr": 2.0, "weight_decay": 0.5}),
        ("lazy_adam", {"beta1": 1.0}),
        ("lazy_adam", {"beta2": 1.5}),
        ("lazy_adam", {"lr": 1.0, "weight_decay": 1.0}),
        ("momentum", {"momentum": 1.0}),
        ("momentum", {"lr": float("nan")}),
        ("momentum", {"seed": -1}),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"must lie in|must be a (whole )?number"):
        optimizers[name]([parameter(C)], **options)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_split_parameter_that_is_given_up_is_let_go(name: str) -> None:
    weight = parameter(C, D)
    optimizer = optimizers[name]([weight], **MEMBERS[name])
    optimizer.split(weight, 1, 2)
    weight.grad = torch.ones(C, D)
    optimizer.step()
    optimizer.state.clear()
    optimizer.param_groups.clear()
    held = weakref.ref(weight)
    del weight
    gc.collect()
    assert held() is None
