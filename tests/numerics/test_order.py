"""Numbers in their order, against NumPy."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.numerics.order import ascending, distinct

NUMBERS = st.lists(st.integers(0, 9) | st.integers(0, 2**40), max_size=60).map(
    lambda numbers: torch.tensor(numbers, dtype=torch.int64)
)


@given(NUMBERS)
def test_ascending(numbers):
    found = ascending(numbers)
    np.testing.assert_array_equal(found, np.sort(numbers))
    assert ascending(found) is found


@given(NUMBERS)
def test_distinct(numbers):
    truth = np.unique(numbers, return_index=True, return_inverse=True)
    for found, wanted in zip(distinct(numbers), truth, strict=True):
        np.testing.assert_array_equal(found, wanted)
