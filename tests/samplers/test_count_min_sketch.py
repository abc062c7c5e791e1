"""Counts in fixed memory: never too low, exact without collisions, off by no more than the theorem says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import ConfigError
from widemax.samplers.count_min_sketch import CountMinSketch

IDS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=60)


def as_ids(ids):
    return torch.tensor(ids, dtype=torch.int64)


def filled(ids, width, depth, *, seed=0):
    sketch = CountMinSketch(width, depth, seed=seed)
    sketch.add(as_ids(ids))
    return sketch


def cells(sketch, width, number):
    """The cell of one id in each row, in integers of any size."""
    low, high = number & 0xFFFFFFFF, number >> 32
    factors = sketch.state()["factors"].T.tolist()
    return [((a * low + b * high + c) % 2**64 >> 32) % width for a, b, c in factors]


def oracle(sketch, width, ids, number):
    """The least over rows of how many ids came to the cell of this one."""
    of_all = [cells(sketch, width, other) for other in ids]
    return min(
        sum(other[row] == cell for other in of_all) for row, cell in enumerate(cells(sketch, width, number))
    )


@given(IDS, st.integers(0, 6), st.integers(1, 4))
def test_an_estimate_is_the_least_cell_and_never_too_low(ids, log2_width, depth):
    width = 2**log2_width
    sketch = filled(ids, width, depth)
    asked = [*ids, 12345, -1]
    estimates = sketch.estimate(as_ids(asked)).tolist()
    assert estimates == [oracle(sketch, width, ids, number) for number in asked]
    assert all(estimate >= ids.count(number) for estimate, number in zip(estimates, asked, strict=True))
    assert sketch.total == len(ids)


@given(IDS, st.integers(1, 3))
def test_an_id_alone_in_a_cell_is_counted_exactly(ids, depth):
    sketch = filled(ids, 256, depth)
    of_id = {number: cells(sketch, 256, number) for number in ids}
    alone = [
        number
        for number in of_id
        if any(all(of_id[x][row] != of_id[number][row] for x in of_id if x != number) for row in range(depth))
    ]
    assert sketch.estimate(as_ids(alone)).tolist() == [ids.count(number) for number in alone]
    if depth == 1 and len(alone) < len(of_id):
        crowded = [number for number in of_id if number not in alone]
        wrong = sketch.estimate(as_ids(crowded)) - as_ids([ids.count(number) for number in crowded])
        assert (wrong > 0).all()


@pytest.mark.parametrize("stride", [1, 2**20, 2**32, 2**44])
def test_errors_stay_below_the_theorem(stride):
    """Mean excess of a row: total / width at most; of the least row above e·total/width: e^−depth at most."""
    width, depth, num_ids = 64, 3, 500
    ids = (torch.arange(num_ids) - num_ids // 2) * stride
    stream = ids.repeat_interleave(torch.arange(num_ids) % 7 + 1)
    counts = torch.arange(num_ids) % 7 + 1
    row_excess, too_far = [], []
    for seed in range(60):
        single = CountMinSketch(width, 1, seed=seed)
        single.add(stream)
        row_excess.append((single.estimate(ids) - counts).double().mean().item())
        sketch = CountMinSketch(width, depth, seed=seed)
        sketch.add(stream)
        excess = sketch.estimate(ids) - counts
        too_far.append((excess > math.e * len(stream) / width).double().mean().item())
    row_excess = torch.tensor(row_excess)
    assert row_excess.mean() < len(stream) / width + 4 * row_excess.std() / math.sqrt(60)
    # The bound is met, and is no empty one: half of it would not hold.
    assert row_excess.mean() > len(stream) / width / 2
    assert sum(too_far) / 60 < math.exp(-depth)


def test_a_hash_of_the_lower_bits_is_caught():
    """The wrong twin: taking the low bits of the product sends ids with a common factor to one cell."""
    ids = torch.arange(100) * 64
    assert len(set((ids * 0x9E3779B97F4A7C1 % 64).tolist())) == 1
    assert len({tuple(cells(CountMinSketch(64, 1), 64, number)) for number in ids.tolist()}) > 30


def test_hashes_are_the_same_in_every_process():
    assert [cells(CountMinSketch(2**20, 2, seed=3), 2**20, number) for number in (0, 1, -1, 2**40)] == [
        [535549, 227018],
        [607079, 828355],
        [614259, 759634],
        [255004, 816987],
    ]


def test_any_shape_of_ids():
    sketch = filled([5, 5, 6], 64, 2)
    sketch.add(torch.tensor([[5], [7]]))
    assert sketch.estimate(torch.tensor([[5, 6], [7, 5]])).tolist() == [[3, 1], [1, 3]]
    assert sketch.estimate(torch.tensor(5)).item() == 3
    assert sketch.estimate(as_ids([])).shape == (0,)


@given(IDS, IDS)
def test_merged_sketches_are_the_sketch_of_both_streams(first, second):
    merged = filled(first, 32, 3)
    merged.merge(filled(second, 32, 3))
    both = filled(first + second, 32, 3)
    assert torch.equal(merged.state()["counts"], both.state()["counts"])
    assert merged.total == both.total


@pytest.mark.parametrize("other", [(64, 2, 0), (32, 3, 0), (32, 2, 1)])
def test_only_like_sketches_merge(other):
    width, depth, seed = other
    with pytest.raises(ConfigError, match="same width, depth and seed"):
        CountMinSketch(32, 2).merge(CountMinSketch(width, depth, seed=seed))


@pytest.mark.parametrize(("width", "depth"), [(0, 1), (48, 1), (2**33, 1), (64, 0), (-2, 1)])
def test_sizes_that_make_no_sketch_are_refused(width, depth):
    with pytest.raises(ConfigError, match=f"got width {width} and depth {depth}"):
        CountMinSketch(width, depth)


def test_a_state_brings_counts_hashes_and_total_back():
    sketch = filled(list(range(1000)) * 2, 128, 3, seed=5)
    state = sketch.state()
    other = CountMinSketch(128, 3, seed=6)
    other.load_state(state)
    ids = torch.arange(1500)
    assert torch.equal(other.estimate(ids), sketch.estimate(ids))
    other.add(torch.tensor([1, 2]))
    assert (sketch.total, other.total) == (2000, 2002)
    assert torch.equal(state["counts"], sketch.state()["counts"]), "a later addition changed a saved state"
