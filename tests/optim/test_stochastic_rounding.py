"""Stochastic rounding is right on average, and training in bfloat16 with it follows float32."""

import copy
import json
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from widemax.errors import UsageError
from widemax.optim import RowOptimizer, optimizers, row_optimizer, stochastic_round, stochastic_rounding
from widemax.optim.stochastic_rounding import mixed_seed
from widemax.training.checkpoint import join_optimizer_state, split_optimizer_state

LARGEST = torch.finfo(torch.bfloat16).max
FIXED: dict[str, dict[str, Any]] = {
    "rowwise_adagrad": {"lr": 2e-4, "weight_decay": 0.5},
    "lazy_adam": {"lr": 2e-5, "weight_decay": 0.5},
    "momentum": {"lr": 4e-6, "momentum": 0.8},
}
"""Rates at which a step is far below the spacing of bfloat16 at 1."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nearest(values: Tensor, _: torch.Generator, *, places: Tensor | None = None) -> Tensor:
    """The wrong twin."""
    return values.to(torch.bfloat16)


def neighbors(value: float) -> tuple[float, float]:
    """The bfloat16 numbers next to a float32, nearer to 0 first."""
    bits = torch.tensor(value).view(torch.int32) & -(2**16)
    inner, outer = bits.view(torch.float32).item(), (bits + 2**16).view(torch.float32).item()
    return inner, outer


VALUES = [1 + 2**-9, 1.0078124, -1.001, 0.1, -3.3e38, 1e-39, -5e-41, 1.9999999, 65536.5]


@pytest.mark.parametrize("value", VALUES)
def test_only_the_two_neighbors_appear_and_the_mean_is_right(value: float) -> None:
    num_draws = 200_000
    inner, outer = neighbors(value)
    share = (torch.tensor(value).item() - inner) / (outer - inner)
    rounded = stochastic_round(torch.full((num_draws,), value), generator()).double()
    assert set(rounded.unique().tolist()) <= {inner, outer}
    tolerance = 4.5 * math.sqrt(max(num_draws * share * (1 - share), 1.0))
    assert abs(int((rounded == outer).sum()) - num_draws * share) < tolerance
    nearest_share = float(nearest(torch.tensor(value), generator()).item() == outer)
    if 0.01 < share < 0.99:
        assert abs(num_draws * nearest_share - num_draws * share) > tolerance, "nearest is biased"


@pytest.mark.parametrize("value", VALUES)
def test_over_all_random_numbers_the_mean_is_exact(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_once(count: int, _: torch.Generator) -> Tensor:
        assert count == 2**16
        return torch.arange(count, dtype=torch.int32)

    monkeypatch.setattr(stochastic_rounding, "random_16_bits", all_once)
    values = torch.full((2**16,), value)
    exact = Fraction(values[0].item())

    def mean(rounded: Tensor) -> Fraction:
        found, counts = rounded.unique(return_counts=True)
        pairs = zip(found.tolist(), counts.tolist(), strict=True)
        return sum((Fraction(number) * count for number, count in pairs), Fraction()) / 2**16

    assert mean(stochastic_round(values, generator())) == exact
    assert mean(nearest(values, generator())) != exact


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True),
    st.integers(0, 2**32),
)
def test_any_finite_number_becomes_a_finite_neighbor(value: float, seed: int) -> None:
    (rounded,) = stochastic_round(torch.tensor([value]), generator(seed)).tolist()
    assert rounded in neighbors(value) or (abs(value) > LARGEST and rounded == math.copysign(LARGEST, value))
    assert math.copysign(1, rounded) == math.copysign(1, value)


def test_every_bfloat16_stays_bitwise() -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)
    rounded = stochastic_round(every.float(), generator())
    assert torch.equal(rounded.isnan(), every.isnan())
    real = ~every.isnan()
    assert torch.equal(rounded.view(torch.int16)[real], every.view(torch.int16)[real])


def test_infinities_and_nan_stay_and_finite_numbers_stay_finite() -> None:
    all_ones = torch.tensor([0x7FFFFFFF, 0x7F800001, -1], dtype=torch.int32).view(torch.float32)
    assert stochastic_round(all_ones.repeat(1000), generator()).isnan().all()
    infinities = torch.tensor([math.inf, -math.inf]).repeat(1000)
    assert torch.equal(stochastic_round(infinities, generator()), infinities.bfloat16())
    largest = torch.tensor([torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max]).repeat(1000)
    expected = torch.tensor([LARGEST, -LARGEST]).repeat(1000)
    assert torch.equal(stochastic_round(largest, generator()).float(), expected)
    assert nearest(largest, generator()).isinf().all()


def test_the_generator_decides_and_the_shape_and_strides_are_free() -> None:
    values = torch.randn(40, 30, generator=generator(1))
    first = stochastic_round(values, generator(3))
    assert torch.equal(first, stochastic_round(values, generator(3)))
    assert not torch.equal(first, stochastic_round(values, generator(4)))
    assert stochastic_round(values.T, generator()).shape == (30, 40)
    assert stochastic_round(values[0, 0], generator()).shape == ()
    assert stochastic_round(values[:0], generator()).shape == (0, 30)
    with pytest.raises(UsageError, match=r"must be float32; got torch\.float64"):
        stochastic_round(values.double(), generator())


def test_tiny_updates_add_up_where_nearest_stands_still() -> None:
    stochastic = torch.ones(4000, dtype=torch.bfloat16)
    stuck = torch.ones(4000, dtype=torch.bfloat16)
    random = generator()
    for _ in range(500):
        stochastic = stochastic_round(stochastic.float() + 1e-4, random)
        stuck = nearest(stuck.float() + 1e-4, random)
    assert (stuck == 1).all()
    # Each entry's variance is at most (sum of updates) · (spacing 2⁻⁷).
    error = math.sqrt(0.05 * 2**-7 / 4000)
    assert stochastic.double().mean().item() == pytest.approx(1.05, abs=4.5 * error)


def test_seeds_are_mixed() -> None:
    seeds = [mixed_seed(number) for number in range(100)]
    ones = sum(seed.bit_count() for seed in seeds) / 100
    assert len(set(seeds)) == 100
    assert 29 < ones < 35, "of 64 bits half are ones"
    assert mixed_seed(1, 2) != mixed_seed(2, 1)


# Optimizers on bfloat16 parameters.


def weights_of(rows: int, columns: int, dtype: torch.dtype) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(rows, columns, dtype=dtype))


def move(weight: torch.nn.Parameter, optimizer: RowOptimizer, steps: range, *, sparse: bool) -> None:
    """Gradients of 1: half of the rows at every step, row by row twice where sparse."""
    for step in steps:
        rows = torch.arange(step % 2, len(weight), 2)
        values = torch.ones(2 * len(rows), weight.shape[1], dtype=weight.dtype) / 2
        grad = torch.sparse_coo_tensor(rows.repeat(2)[None], values, weight.shape, check_invariants=True)
        weight.grad = grad if sparse else grad.to_dense()
        optimizer.step()


def shift(name: str, dtype: torch.dtype, *, sparse: bool) -> Tensor:
    """How far each weight has come from 1."""
    weight = weights_of(400, 64, dtype)
    optimizer = optimizers[name]([weight], **FIXED[name])
    move(weight, optimizer, range(40), sparse=sparse)
    optimizer.catch_up()
    return 1 - weight.detach().double()


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("sparse", [False, True])
def test_bfloat16_moves_as_float32_on_average(
    name: str, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = shift(name, torch.float64, sparse=sparse).mean().item()
    rounded = shift(name, torch.bfloat16, sparse=sparse)
    error = math.sqrt(truth * 2**-8 / rounded.numel())
    assert truth > 20 * error
    assert rounded.mean().item() == pytest.approx(truth, abs=4.5 * error)
    monkeypatch.setenv("WIDEMAX_NATIVE", "0")
    monkeypatch.setattr(row_optimizer, "stochastic_round", nearest)
    assert (shift(name, torch.bfloat16, sparse=sparse) == 0).all(), "nearest stands still"


@pytest.mark.parametrize("name", FIXED)
def test_the_state_is_float32_whatever_the_gradient(name: str) -> None:
    weight = weights_of(4, 3, torch.bfloat16)
    optimizer = optimizers[name]([weight], **FIXED[name])
    move(weight, optimizer, range(2), sparse=True)
    floats = [v for v in optimizer.state[weight].values() if isinstance(v, Tensor) and v.is_floating_point()]
    assert floats
    assert {value.dtype for value in floats} <= {torch.float32, torch.float64}
    assert weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("sparse", [False, True])
def test_a_resumed_run_rounds_as_one_that_went_on(name: str, sparse: bool) -> None:
    straight, interrupted, resumed = (weights_of(50, 8, torch.bfloat16) for _ in range(3))
    first = optimizers[name]([straight], **FIXED[name], seed=5)
    move(straight, first, range(20), sparse=sparse)
    second = optimizers[name]([interrupted], **FIXED[name], seed=5)
    move(interrupted, second, range(9), sparse=sparse)
    tensors, numbers = copy.deepcopy(split_optimizer_state(second))
    for numbers_read in (json.loads(json.dumps(numbers)), numbers | {"0.rounding_seed": 1}):
        third = optimizers[name]([resumed], **FIXED[name], seed=6)
        join_optimizer_state(third, tensors, numbers_read)
        resumed.data.copy_(interrupted.data)
        move(resumed, third, range(9, 20), sparse=sparse)
        assert torch.equal(resumed, straight) == (numbers_read == numbers), "the saved seed decides"


@pytest.mark.parametrize("name", FIXED)
def test_a_sparse_step_of_all_rows_is_the_dense_one_bitwise(name: str) -> None:
    dense, sparse = weights_of(40, 3, torch.bfloat16), weights_of(40, 3, torch.bfloat16)
    optimizer_dense, optimizer_sparse = (optimizers[name]([w], lr=0.01) for w in (dense, sparse))
    for seed in range(4):
        dense.grad = torch.randn(40, 3, generator=generator(seed)).bfloat16()
        sparse.grad = dense.grad.to_sparse(1)
        optimizer_dense.step()
        optimizer_sparse.step()
    torch.testing.assert_close(sparse, dense, rtol=0, atol=0)


@pytest.mark.parametrize("name", FIXED)
def test_other_rows_of_bfloat16_stay_bitwise(name: str) -> None:
    weight = torch.nn.Parameter(torch.randn(7, 64, generator=generator()).bfloat16())
    before = weight.detach().clone()
    values = torch.ones(3, 64, dtype=torch.bfloat16)
    weight.grad = torch.sparse_coo_tensor([[5, 2, 5]], values, (7, 64), check_invariants=True)
    optimizers[name]([weight], lr=0.01).step()
    assert (weight != before).any(1).nonzero().flatten().tolist() == [2, 5]


def test_duplicates_are_summed_in_float32() -> None:
    weight = weights_of(3, 1, torch.bfloat16)
    values = torch.tensor([[1.0], [2**-9]], dtype=torch.bfloat16)
    weight.grad = torch.sparse_coo_tensor([[1, 1]], values, (3, 1), check_invariants=True)
    assert weight.grad.to_dense()[1] == 1.0, "bfloat16 loses the smaller one"
    optimizer = optimizers["momentum"]([weight], lr=1.0)
    optimizer.step()
    assert optimizer.state[weight]["velocity"][1] == 1 + 2**-9


def test_parameters_and_seeds_draw_their_own_bits() -> None:
    weights = [weights_of(50, 8, torch.bfloat16) for _ in range(3)]
    optimizer = optimizers["momentum"](weights[:2], lr=1e-3)
    other = optimizers["momentum"](weights[2:], lr=1e-3, seed=1)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    other.step()
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_debts_of_bfloat16_are_paid_on_average() -> None:
    settled = {}
    for dtype in (torch.float64, torch.bfloat16):
        weight = weights_of(300, 64, dtype)
        optimizer = optimizers["lazy_adam"]([weight], lr=1e-3, weight_decay=0.5)
        weight.grad = torch.sparse_coo_tensor(
            [[0]], torch.ones(1, 64, dtype=dtype), weight.shape, check_invariants=True
        )
        optimizer.step()
        assert (weight[1:] == 1).all(), "asleep"
        optimizer.catch_up()
        settled[dtype] = weight[1:].detach().double()
    error = math.sqrt(5e-4 * 2**-8 / settled[torch.bfloat16].numel())
    assert settled[torch.float64].mean().item() == pytest.approx(1 - 5e-4)
    assert settled[torch.bfloat16].mean().item() == pytest.approx(1 - 5e-4, abs=4.5 * error)
    assert 20 * error < 5e-4


def test_settling_in_blocks_is_settling_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = []
    for block in (2**16, 7):
        monkeypatch.setattr(row_optimizer, "SETTLED_ROWS", block)
        weight = weights_of(40, 3, torch.float32)
        optimizer = optimizers["lazy_adam"]([weight], lr=0.1, weight_decay=0.5)
        move(weight, optimizer, range(5), sparse=True)
        optimizer.catch_up()
        settled.append(weight.detach().clone())
    assert torch.equal(*settled)


@pytest.mark.parametrize("name", FIXED)
def test_a_dense_step_in_blocks_is_one_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped = []
    for block in (2**16, 7):
        monkeypatch.setattr(row_optimizer, "SETTLED_ROWS", block)
        weight = weights_of(40, 3, torch.bfloat16)
        optimizer = optimizers[name]([weight], **FIXED[name])
        move(weight, optimizer, range(5), sparse=False)
        tensors, numbers = split_optimizer_state(optimizer)
        stepped.append((weight.detach().clone(), tensors, numbers))
    (one, one_state, one_numbers), (blocks, block_state, block_numbers) = stepped
    assert torch.equal(one, blocks)
    assert one_numbers == block_numbers
    torch.testing.assert_close(block_state, one_state)  # torch's kernel takes the last of a block otherwise


def test_training_follows_float32_where_nearest_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Least squares: at this rate each step is below half of the spacing of bfloat16."""
    inputs = torch.randn(256, 16, generator=generator(1))
    goal = inputs @ (1 + 0.3 * torch.randn(16, 64, generator=generator(2)))

    def loss_after_training(dtype: torch.dtype) -> float:
        weight = weights_of(16, 64, dtype)
        optimizer = optimizers["momentum"]([weight], lr=2e-3, momentum=0.0)
        for _ in range(800):
            optimizer.zero_grad()
            loss = (inputs @ weight.float() - goal).square().mean(0).sum()
            loss.backward()
            optimizer.step()
        return (inputs @ weight.detach().float() - goal).square().mean().item()

    exact, stochastic = loss_after_training(torch.float32), loss_after_training(torch.bfloat16)
    monkeypatch.setenv("WIDEMAX_NATIVE", "0")
    monkeypatch.setattr(row_optimizer, "stochastic_round", nearest)
    stalled = loss_after_training(torch.bfloat16)
    noise = 16 * (2**-7) ** 2
    assert stochastic - exact < 2 * noise
    assert stalled > 10 * noise


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("num_shards", [2, 3])
def test_shards_round_as_the_whole(
    name: str, sparse: bool, num_shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise, whatever rows the others touch and however many are brought to the present at a time."""
    monkeypatch.setattr(row_optimizer, "SETTLED_ROWS", 7)
    whole = weights_of(50, 8, torch.bfloat16)
    shards = [torch.nn.Parameter(whole.detach()[shard::num_shards].clone()) for shard in range(num_shards)]
    optimizers_of = [optimizers[name]([each], **FIXED[name], seed=5) for each in (whole, *shards)]
    told = list(zip(optimizers_of[1:], shards, strict=True))
    for shard, (optimizer, each) in enumerate(told):
        optimizer.split(each, shard, num_shards)
    for step in range(6):
        touched = torch.arange(step % 4, 50, 4)
        grad = torch.zeros(50, 8, dtype=torch.bfloat16)
        grad[touched] = torch.randn(len(touched), 8, generator=generator(step)).bfloat16()
        for first, stride, each in ((0, 1, whole), *((s, num_shards, w) for s, w in enumerate(shards))):
            own = grad[first::stride]
            each.grad = own.to_sparse(1) if sparse else own
        for optimizer in optimizers_of:
            optimizer.step()
            optimizer.catch_up()
    for shard, each in enumerate(shards):
        assert torch.equal(each, whole[shard::num_shards])
    assert not torch.equal(shards[1][:10], whole[:10]), "the place decides"


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True), st.integers(0, 2**32 - 1))
def test_a_row_is_rounded_alike_whatever_others_are_there(places: list[int], seed: int) -> None:
    values = torch.full((len(places), 5), 1 + 2**-9)
    together = stochastic_round(values, generator(seed), places=torch.tensor(places))
    for row, place in enumerate(places):
        alone = stochastic_round(values[:1], generator(seed), places=torch.tensor([place]))
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("value", VALUES)
def test_rows_by_their_places_are_rounded_to_the_right_mean(value: float) -> None:
    """In every column, over rows, and in every row, over columns; in sums over a column too."""
    size = 1500
    inner, outer = neighbors(value)
    share = (torch.tensor(value).item() - inner) / (outer - inner)
    values = torch.full((size, size), value)
    is_outer = (stochastic_round(values, generator(), places=torch.arange(size)).double() == outer).double()
    deviation = math.sqrt(max(share * (1 - share), 1 / size) / size)
    for axis in (0, 1):
        means = is_outer.mean(axis)
        assert (means - share).abs().max() < 5.5 * deviation
        if 0.01 < share < 0.99:
            assert 0.9 * deviation < (means - share).square().mean().sqrt() < 1.1 * deviation
