from hypothesis import given
from hypothesis import strategies as st

from widemax.optim import linear_decay


def test_corners() -> None:
    assert linear_decay(0, 10) == 1.0
    assert linear_decay(0, 10, 5) == 0.2
    assert linear_decay(4, 10, 5) == linear_decay(5, 10, 5) == 1.0
    assert linear_decay(9, 10, 5) == 0.2
    assert linear_decay(10, 10, 5) == linear_decay(11, 10, 5) == 0.0
    assert linear_decay(3, 4, 8) == 0.5, "a warm-up longer than the training is cut"


@given(st.integers(1, 500), st.integers(0, 500))
def test_rises_then_falls_and_is_never_zero_in_training(total_steps: int, warmup: int) -> None:
    factors = [linear_decay(step, total_steps, warmup) for step in range(total_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors == sorted(factors[:peak]) + sorted(factors[peak:], reverse=True)
