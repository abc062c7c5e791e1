"""The quadratic kernel: its formula, and what its rejection costs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import ConfigError
from widemax.samplers import Query, build_sampler, samplers

NUM_CLASSES, DIM = 50, 4


def model(seed=0, stretch=1.0, num_rows=3):
    """Weights of which one direction is longer than the others by ``stretch``."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(NUM_CLASSES, DIM, generator=rng)
    weight[:, 0] *= stretch
    bias = torch.randn(NUM_CLASSES, generator=rng)
    hidden = torch.randn(num_rows, DIM, generator=rng)
    return Query(hidden, lambda ids: (weight[ids], bias[ids]))


def of_batch(query, **options):
    sampler = build_sampler({"kind": "quadratic_kernel", **options}, NUM_CLASSES)
    index = sampler.build_index(query, torch.Generator())
    return sampler.of_batch(query.hidden_BD.double(), index)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 100.0])
def test_probabilities_follow_the_squared_logits(alpha):
    query = model()
    weight, bias = query.rows(torch.arange(NUM_CLASSES))
    logits_BC = (query.hidden_BD @ weight.T + bias).double()
    kernel_BC = alpha * logits_BC**2 + 1
    expected_C = (kernel_BC / kernel_BC.sum(1, keepdim=True)).mean(0)
    probs_C = of_batch(query, alpha=alpha).probs(torch.arange(NUM_CLASSES))
    torch.testing.assert_close(probs_C, expected_C, rtol=1e-5, atol=0)
    without_bias_BC = alpha * (logits_BC - bias) ** 2 + 1
    wrong_C = (without_bias_BC / without_bias_BC.sum(1, keepdim=True)).mean(0)
    assert alpha == 0 or (probs_C / wrong_C - 1).abs().max() > 0.1


@given(
    seed=st.integers(0, 1000),
    stretch=st.sampled_from([0.0, 1e-4, 1.0, 1e4]),
    num_rows=st.sampled_from([1, 20]),
    alpha=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_a_draw_takes_no_more_proposals_than_promised(seed, stretch, num_rows, alpha):
    q = of_batch(model(seed, stretch, num_rows), alpha=alpha)
    ids = torch.arange(NUM_CLASSES)
    assert (q.probs(ids) <= q.ceiling(ids)).all()
    torch.testing.assert_close(q.ceiling(ids).sum(), q.tries_per_draw)
    assert 1 - 1e-9 <= q.tries_per_draw <= DIM + 2 + 1e-4


@pytest.mark.parametrize("way", ["draw_by_rejection", "draw_from_all"])
def test_proposals_without_rejection_are_caught(way):
    q, num_draws = of_batch(model(num_rows=1), alpha=100.0), 100_000
    ids = torch.arange(NUM_CLASSES)
    drawn = getattr(q, way)(num_draws, torch.Generator().manual_seed(1))
    count_C = drawn.bincount(minlength=NUM_CLASSES)

    def furthest(probs_C):
        return ((count_C / num_draws - probs_C) / (probs_C / num_draws).sqrt()).abs().max()

    assert furthest(q.probs(ids)) < 5
    assert furthest(q.ceiling(ids) / q.tries_per_draw) > 8


def test_options_out_of_range_are_named():
    with pytest.raises(ConfigError, match="alpha"):
        samplers.options("quadratic_kernel").complete({"alpha": -1.0})


def test_many_draws_look_at_every_class_once_and_few_at_few():
    q = of_batch(model(num_rows=20))
    ids = torch.arange(NUM_CLASSES)
    by_formula = q.probs(ids)
    q.draw_ids(1, generator=torch.Generator().manual_seed(0))
    assert q.probs_C is None
    q.draw_ids(NUM_CLASSES, generator=torch.Generator().manual_seed(0))
    assert q.probs_C is not None
    torch.testing.assert_close(q.probs(ids), by_formula, rtol=1e-5, atol=0)
    assert q.probs(ids).sum() == pytest.approx(1, abs=1e-12)
