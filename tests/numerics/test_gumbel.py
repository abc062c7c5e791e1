"""Gumbel-softmax: what it draws, and what gradient it carries."""

import numpy as np
import pytest
import torch
from scipy import stats

from widemax.numerics import gumbel_softmax, softmax

LOGITS = np.array([0.0, 1.0, 2.5, -1.0, 0.3, -np.inf])
DRAWS = 40_000


def sample(kind, *, seed=0, **options):
    """Rows of DRAWS draws."""
    x = np.tile(LOGITS, (DRAWS, 1))
    if kind == "numpy":
        return gumbel_softmax(x, generator=np.random.default_rng(seed), **options)
    return gumbel_softmax(torch.tensor(x), generator=torch.Generator().manual_seed(seed), **options).numpy()


def p_value(rows, probs):
    """Of the χ² test that the largest entries of the rows are draws from the probabilities."""
    counts = np.bincount(rows.argmax(1), minlength=len(probs))
    possible = probs > 0
    assert counts[~possible].sum() == 0
    return stats.chisquare(counts[possible], probs[possible] * len(rows)).pvalue


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 50.0])
def test_draws_follow_the_softmax_at_every_temperature(kind, hard, temperature):
    rows = sample(kind, hard=hard, temperature=temperature)
    assert p_value(rows, softmax(LOGITS)) > 1e-3
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-12)
    if hard:
        assert set(np.unique(rows)) == {0.0, 1.0}


@pytest.mark.parametrize(
    "noise",
    [
        lambda rng, shape: -rng.gumbel(size=shape),
        lambda rng, shape: rng.uniform(size=shape),
        lambda rng, shape: rng.standard_normal(shape),
        lambda rng, shape: rng.gumbel(size=shape) / 1.1,
    ],
    ids=["wrong sign", "uniform", "normal", "too little"],
)
def test_other_noise_is_rejected(noise):
    finite = LOGITS[:-1]
    rows = finite + noise(np.random.default_rng(0), (DRAWS, len(finite)))
    assert p_value(rows, softmax(finite)) < 1e-6


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_masked_classes_are_never_drawn(kind):
    mask = np.array([True, False, True, True, False, True])
    where = mask if kind == "numpy" else torch.tensor(mask)
    rows = sample(kind, where=where, hard=True)
    assert p_value(rows, softmax(LOGITS, where=mask)) > 1e-3


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("hard", [False, True])
def test_rows_without_a_class_are_empty_and_infinite_ones_share(kind, hard):
    x = np.array([[-np.inf] * 3, [np.inf, 0.0, np.inf]] * 500)
    x = x if kind == "numpy" else torch.tensor(x)
    generator = np.random.default_rng(0) if kind == "numpy" else torch.Generator().manual_seed(0)
    rows = np.asarray(gumbel_softmax(x, hard=hard, generator=generator))
    assert (rows[::2] == 0).all()
    np.testing.assert_allclose(rows[1::2].sum(1), 1)
    assert (rows[1::2, 1] == 0).all()
    assert 200 < (rows[1::2].argmax(1) == 0).sum() < 300
    assert gumbel_softmax(x[:, :0], hard=hard).shape == (1000, 0)


def test_the_same_seed_gives_the_same_draw():
    for kind in ("numpy", "torch"):
        np.testing.assert_array_equal(sample(kind, seed=3), sample(kind, seed=3))
        assert (sample(kind, seed=3) != sample(kind, seed=4)).any()
    torch.manual_seed(0)
    first = gumbel_softmax(torch.zeros(5))
    torch.manual_seed(0)
    assert gumbel_softmax(torch.zeros(5)).tolist() == first.tolist()


def test_hard_rows_carry_the_gradient_of_soft_ones():
    gradients = []
    for hard in (False, True):
        x = torch.tensor(LOGITS[None], requires_grad=True)
        y = gumbel_softmax(x, hard=hard, temperature=0.7, generator=torch.Generator().manual_seed(1))
        (y * torch.arange(6)).sum().backward()
        gradients.append(x.grad)
    np.testing.assert_allclose(*gradients, rtol=1e-12)
    assert gradients[0].abs().sum() > 0


def test_gradient_is_that_of_the_softmax_of_noisy_logits():
    x = torch.tensor(LOGITS[None, :5], requires_grad=True)

    def draw(x):
        return gumbel_softmax(x, temperature=0.5, generator=torch.Generator().manual_seed(2))

    assert torch.autograd.gradcheck(draw, x)
    assert torch.autograd.gradgradcheck(draw, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type(dtype):
    x = torch.zeros(3, 4, dtype=dtype)
    for hard in (False, True):
        assert gumbel_softmax(x, hard=hard).dtype == dtype
    assert gumbel_softmax(np.zeros((3, 4), np.float16)).dtype == np.float16


def test_the_generator_fits_the_array():
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator for a tensor; got Generator"):
        gumbel_softmax(torch.zeros(2), generator=np.random.default_rng(0))
    with pytest.raises(
        TypeError, match=r"generator must be a numpy\.random\.Generator for an array; got Gen"
    ):
        gumbel_softmax(np.zeros(2), generator=torch.Generator())
    with pytest.raises(TypeError, match="'generator' of gumbel_softmax must be a Generator or None; got 0"):
        gumbel_softmax(np.zeros(2), generator=0)
