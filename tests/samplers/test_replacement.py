"""The earliest arrivals, and how long one waits for them."""

import pytest
import scipy.stats
import torch

from widemax.samplers.replacement import earliest, waiting_times

NUM_TIMES, COUNT = 10_000, 100


def orders():
    """Times whose every 32nd is as the others, early, late, or all that is early."""
    times = torch.rand(NUM_TIMES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alike, early, late = times.clone(), times.clone(), times.clone()
    early[::32] /= 1000
    late[::32] += 1
    return {"alike": alike, "early": early, "late": late, "ascending": times.sort().values}


@pytest.mark.parametrize("order", list(orders()))
@pytest.mark.parametrize("count", [1, COUNT, NUM_TIMES // 8, NUM_TIMES // 2, NUM_TIMES])
def test_the_earliest_are_the_smallest(order, count):
    times = orders()[order]
    smallest, places = earliest(times, count)
    assert torch.equal(times[places], smallest)
    assert torch.equal(smallest.sort().values, times.sort().values[:count])


def test_a_limit_from_some_of_them_may_leave_too_few():
    times = orders()["early"]
    limit = times[::32].kthvalue(COUNT).values
    assert (times <= limit).sum() < COUNT * 5 // 4


def test_waiting_times_are_exponential():
    times = waiting_times(20_000, torch.Generator().manual_seed(0))
    assert times.dtype == torch.float64
    assert (times >= 0).all()
    assert times.isfinite().all()
    assert scipy.stats.kstest(times.numpy(), "expon").pvalue > 0.01
    assert scipy.stats.kstest(2 * times.numpy(), "expon").pvalue < 1e-9  # the wrong twin
