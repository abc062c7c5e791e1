"""Draws follow the distribution that temperature and truncation say."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from widemax.errors import OptionError
from widemax.language import sample

LOGITS = torch.tensor([0.3, 2.0, 1.1, -0.5, 1.2])
NUM = 20_000


def drawn(**options: float) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    ids = sample(LOGITS.expand(NUM, -1), generator=generator, **options)
    return np.bincount(ids.numpy(), minlength=len(LOGITS))


def chance(counts: np.ndarray, logits: torch.Tensor) -> float:
    expected = NUM * logits.double().softmax(0).numpy()
    held = expected > 0
    assert not counts[~held].any()
    return float(chisquare(counts[held], expected[held]).pvalue)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_at_a_temperature(temperature: float) -> None:
    counts = drawn(temperature=temperature)
    assert chance(counts, LOGITS / temperature) > 1e-4
    assert chance(counts, LOGITS / (1.2 * temperature)) < 1e-4  # the test can fail


def test_top_k_keeps_the_most_probable() -> None:
    kept = LOGITS.masked_fill(torch.tensor([True, False, False, True, False]), -torch.inf)
    assert chance(drawn(top_k=3), kept) > 1e-4
    assert drawn(top_k=99).all()


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    two = LOGITS.masked_fill(torch.tensor([True, False, True, True, False]), -torch.inf)
    shares = LOGITS.softmax(0).sort(descending=True).values.cumsum(0)
    assert chance(drawn(top_p=float(shares[1]) - 1e-3), two) > 1e-4
    assert (drawn(top_p=1e-9) > 0).tolist() == [False, True, False, False, False]
    assert drawn(top_p=1.0).all()
    one = drawn(top_k=2, top_p=0.6)  # among the two that are kept, the first has more than .6
    assert (one > 0).tolist() == [False, True, False, False, False]


def test_a_temperature_of_nothing_takes_the_best() -> None:
    assert sample(torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 1.0]]), temperature=0.0).tolist() == [1, 2]


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_other_numbers_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        sample(LOGITS[None], **options)
