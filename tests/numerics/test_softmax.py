"""Softmax, its logarithm and log-sum-exp, for NumPy and torch alike."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from widemax.numerics import entmax15, log_softmax, logsumexp, softmax, sparsemax

KINDS = {"numpy": np.array, "torch": lambda x: torch.tensor(x, dtype=torch.float64)}
MASKS = {"numpy": np.array, "torch": torch.tensor}
NORMALIZERS = [softmax, sparsemax, entmax15]
EVERY = [*NORMALIZERS, log_softmax, logsumexp]
PEERS = {softmax: torch.softmax, log_softmax: torch.log_softmax, logsumexp: torch.logsumexp}


@pytest.fixture(params=KINDS, ids=str)
def kind(request):
    return request.param


@pytest.fixture
def array(kind):
    return KINDS[kind]


def naive_softmax(x):
    exps = np.exp(x)
    return exps / exps.sum(-1, keepdims=True)


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("logits", "probs", "error"),
    [
        # The third number is cut off after its digits, not rounded.
        ([-0.5, 1.2, -0.1, 2.4], [0.04, 0.21, 0.05, 0.70], 0.0072),
        ([1.0, 2.0, 3.0], [0.0900, 0.2447, 0.6652], 0.5e-4),
        ([3.0, 1.0, -3.0], [0.88, 0.12, 0.00], 0.5e-2),
        ([1e7, 1e8, 2e5, 2e7], [0, 1, 0, 0], 0),
        ([-1e10, -1e9, -2e10, -1e10], [0, 1, 0, 0], 0),
    ],
)
def test_worked_values(array, logits, probs, error):
    np.testing.assert_allclose(np.asarray(softmax(array(logits))), probs, rtol=0, atol=error)


def test_worked_gradient_of_the_cross_entropy():
    logits = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    (-log_softmax(logits)[1]).backward()
    # The digits rest on a softmax rounded to [0.0903, 0.2447, 0.665].
    np.testing.assert_allclose(logits.grad, [0.0903, -0.7553, 0.665], atol=0.0004)
    np.testing.assert_allclose(logits.grad, softmax(logits.detach()) - torch.tensor([0, 1, 0]), atol=1e-15)


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=8), st.sampled_from(sorted(KINDS)))
def test_agrees_with_scipy(logits, kind):
    x = KINDS[kind](logits)
    np.testing.assert_allclose(np.asarray(softmax(x)), special.softmax(logits), atol=1e-15)
    np.testing.assert_allclose(
        np.asarray(log_softmax(x)), special.log_softmax(logits), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(np.asarray(logsumexp(x)), special.logsumexp(logits), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", PEERS)
def test_agrees_with_torch_along_every_axis(function):
    x = normal(2, 3, 4)
    for axis in range(-3, 3):
        expected = PEERS[function](x, axis)
        np.testing.assert_allclose(function(x, axis=axis), expected, rtol=1e-12)
        np.testing.assert_allclose(function(x.numpy(), axis=axis), expected, rtol=1e-12)


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("temperature", [0.05, 1, 7.0, np.float32(2)])
def test_temperature_divides(function, temperature, kind):
    x = normal(3, 5)
    x = x.numpy() if kind == "numpy" else x
    hot = np.asarray(function(x, temperature=temperature))
    np.testing.assert_allclose(hot, np.asarray(function(x / float(temperature))), atol=1e-12)
    if temperature != 1:
        assert np.abs(hot - np.asarray(function(x * float(temperature)))).max() > 1e-3


def law_holds(function, law, x):
    """Whether a law of normalizers holds to rounding."""
    probs = function(x)
    broken = {
        "sums to 1": lambda: probs.sum() - 1,
        "is not negative": lambda: np.minimum(probs, 0),
        "ignores a shift": lambda: function(x + 3.0) - probs,
        "follows a permutation": lambda: function(x[::-1].copy()) - probs[::-1],
        "keeps the order": lambda: np.minimum(np.diff(probs[np.argsort(x)]), 0),
    }[law]()
    return bool(np.abs(broken).max(initial=0) <= 1e-9)


LAWS = ["sums to 1", "is not negative", "ignores a shift", "follows a permutation", "keeps the order"]


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=7), st.sampled_from(NORMALIZERS))
def test_laws_of_normalizers(logits, function):
    for law in LAWS:
        assert law_holds(function, law, np.array(logits)), law
        assert law_holds(lambda x: function(torch.tensor(x)).numpy(), law, np.array(logits)), law


@pytest.mark.parametrize(
    ("law", "wrong"),
    [
        ("sums to 1", lambda x: np.exp(x - x.max())),
        ("is not negative", lambda x: (x - x.mean()) / len(x) + 1 / len(x)),
        ("ignores a shift", lambda x: np.exp(np.clip(x, None, 2)) / np.exp(np.clip(x, None, 2)).sum()),
        ("follows a permutation", lambda x: np.eye(len(x))[0]),
        ("keeps the order", lambda x: softmax(-x)),
    ],
)
def test_wrong_normalizers_break_the_laws(law, wrong):
    assert not law_holds(wrong, law, np.array([-3.0, 0.5, 4.0]))


@pytest.mark.parametrize("size", [1e4, 1e30, 1e300])
def test_extremes(array, size):
    x = [[size, -size, 0.0], [-size, -size, -2 * size]]
    for function in NORMALIZERS:
        np.testing.assert_allclose(np.asarray(function(array(x))), [[1, 0, 0], [0.5, 0.5, 0]], rtol=1e-15)
    np.testing.assert_allclose(np.asarray(logsumexp(array(x))), special.logsumexp(x, axis=1), rtol=1e-15)
    np.testing.assert_allclose(np.asarray(log_softmax(array(x))), special.log_softmax(x, axis=1), rtol=1e-15)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(naive_softmax(np.array(x))).any()


def test_a_quotient_beyond_the_largest_number_keeps_its_order(array):
    assert np.asarray(softmax(array([1e300, 2e300]), temperature=1e-200)).tolist() == [0, 1]
    assert np.asarray(sparsemax(array([1e300, 2e300]), temperature=1e-200)).tolist() == [0, 1]


def test_rows_without_an_entry_are_empty(array):
    x = array([[-np.inf, -np.inf], [0.0, -np.inf]])
    for function in NORMALIZERS:
        assert np.asarray(function(x)).tolist() == [[0, 0], [1, 0]]
    assert np.asarray(log_softmax(x)).tolist() == [[-np.inf, -np.inf], [0, -np.inf]]
    assert np.asarray(logsumexp(x)).tolist() == [-np.inf, 0]


def test_entries_of_plus_infinity_share_the_mass(array):
    x = array([[np.inf, 5.0, np.inf, -np.inf], [np.inf, 1e308, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    for function in NORMALIZERS:
        probs = np.asarray(function(x))
        np.testing.assert_allclose(probs, [[0.5, 0, 0.5, 0], [1, 0, 0, 0], [0.25] * 4], rtol=1e-15)
    half, no = -np.log(2), -np.inf
    np.testing.assert_allclose(np.asarray(log_softmax(x))[:2], [[half, no, half, no], [0, no, no, no]])
    np.testing.assert_allclose(np.asarray(logsumexp(x)), [np.inf, np.inf, 1 + np.log(4)])


@pytest.mark.parametrize("function", EVERY)
def test_nan_spoils_its_row_and_no_other(function, array):
    result = np.asarray(function(array([[np.nan, np.inf, 0.0], [1.0, -np.inf, 0.0]])))
    assert np.isnan(result[0]).all()
    assert not np.isnan(result[1]).any()


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("axis", [0, -1])
def test_masked_entries_are_as_if_absent(function, kind, axis):
    x = normal(4, 4).numpy()
    mask = np.array([True, False, True, True])
    mask = mask[:, None] if axis == 0 else mask
    spoiled = np.where(mask, x, np.nan)
    result = np.asarray(function(KINDS[kind](spoiled), axis=axis, where=MASKS[kind](mask)))
    expected = function(np.compress(mask.ravel(), x, axis=axis), axis=axis)
    if function is logsumexp:
        np.testing.assert_allclose(result, expected, rtol=1e-12)
    else:
        np.testing.assert_allclose(np.compress(mask.ravel(), result, axis=axis), expected, atol=1e-12)
        absent = np.compress(~mask.ravel(), result, axis=axis)
        assert (absent == (-np.inf if function is log_softmax else 0)).all()


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, -torch.inf, 3.0])
def test_gradient_of_masked_entries_and_empty_rows_is_zero(function, dtype, spoil):
    where = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    x = normal(3, 4).masked_fill(~where, spoil).to(dtype).requires_grad_()
    result = function(x, where=where, temperature=8)
    # A loss may well send an infinite gradient back to a probability of 0; it must end at the mask.
    seed = torch.arange(1.0, result.numel() + 1).reshape(result.shape).to(dtype)
    if function is not logsumexp:
        seed = seed.masked_fill(~where, torch.inf)
    result.backward(seed)
    assert x.grad.dtype == dtype
    assert (x.grad[~where] == 0).all()
    assert x.grad.isfinite().all()
    assert (x.grad[2] != 0).sum() >= 2


def test_filling_the_probabilities_afterwards_would_not_do():
    where = torch.tensor([True, True, False])
    x = torch.tensor([0.0, 1.0, torch.nan], requires_grad=True)
    torch.softmax(x, 0).masked_fill(~where, 0.0)[0].backward()
    assert x.grad.isnan().any()


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("infinity", [torch.inf, -torch.inf])
def test_gradient_of_rows_with_an_infinite_maximum_is_zero(function, infinity):
    x = torch.tensor([[infinity, -torch.inf, infinity], [0.0, 1.0, 0.5]], requires_grad=True)
    result = function(x)
    result.backward(torch.arange(result.numel()).reshape(result.shape).float())
    assert x.grad[0].tolist() == [0, 0, 0]
    assert x.grad[1].abs().sum() > 0


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"temperature": 0.7}, {"where": None}])
def test_gradients_of_both_orders(function, options):
    x = normal(3, 4).requires_grad_()
    if "where" in options:
        options = {"where": normal(3, 4, seed=1) > -0.5}

    def summed(x):
        # −inf has no difference quotient.
        return function(x, **options).nan_to_num(neginf=0.0)

    assert torch.autograd.gradcheck(summed, x)
    assert torch.autograd.gradgradcheck(summed, x)


@pytest.mark.parametrize("function", EVERY)
def test_function_transforms(function):
    x, weight = normal(3, 4), normal(4, seed=2)

    def loss(row):
        return (function(row) * weight).sum()

    gradients = torch.vmap(torch.func.grad(loss))(x)
    x.requires_grad_()
    sum(loss(row) for row in x).backward()
    np.testing.assert_allclose(gradients, x.grad, atol=1e-14)
    # Values cannot be looked at under vmap, so that rows of infinities take another way to the same result.
    infinite = torch.tensor([[torch.inf, 0.0], [-torch.inf, -torch.inf], [1.0, -torch.inf]])
    np.testing.assert_array_equal(torch.vmap(function)(infinite), function(infinite))


@pytest.mark.parametrize("function", [softmax, log_softmax, logsumexp])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_half_precision_is_no_worse_than_torch(function, dtype, temperature):
    x = (6 * normal(50, 300)).to(dtype)
    truth = function(x.double(), temperature=temperature)
    result = function(x, temperature=temperature)
    peer = PEERS[function](x / temperature, -1)
    assert result.dtype == dtype
    error = (result.double() - truth).abs()
    assert error.max() <= (peer.double() - truth).abs().max()
    if function is not log_softmax or temperature != 1:  # torch's own log_softmax rounds more than once
        assert (error <= (truth.to(dtype).double() - truth).abs() * 1.01 + 1e-5).all()
    if dtype == torch.float16:
        in_numpy = function(x.numpy(), temperature=temperature)
        assert in_numpy.dtype == np.float16
        assert np.abs(in_numpy.astype(float) - truth.numpy()).max() <= error.max() * 1.01


def test_half_precision_computed_throughout_is_worse():
    x = normal(200, 300).half()
    truth = logsumexp(x.double())
    shift = x.amax(-1, keepdim=True)
    careless = ((x - shift).exp().sum(-1, keepdim=True).log() + shift)[:, 0]
    assert (careless.double() - truth).abs().mean() > 1.1 * (logsumexp(x).double() - truth).abs().mean()


@pytest.mark.parametrize("function", EVERY)
def test_arrays_without_entries(function, kind):
    make = {"numpy": np.zeros, "torch": torch.zeros}[kind]
    for shape, axis in itertools.product([(0, 3), (2, 0), (0, 0), (0,)], (0, -1)):
        result = np.asarray(function(make(shape), axis=axis))
        reduced = tuple(np.delete(shape, axis))
        assert result.shape == (reduced if function is logsumexp else shape)
        if function is logsumexp:
            assert (result == -np.inf).all()
    x = torch.zeros((2, 0), requires_grad=True)
    function(x).sum().backward()
    assert x.grad.shape == (2, 0)


def test_integers_and_lists_are_promoted():
    assert softmax(np.array([1, 2])).dtype == np.float64
    assert softmax(torch.tensor([1, 2])).dtype == torch.float32
    assert softmax(torch.tensor([True, False])).dtype == torch.float32
    assert float(logsumexp([0, 0])) == pytest.approx(np.log(2))
    assert softmax([[True, False]]).shape == (1, 2)
    assert softmax(np.float32([1, 2])).dtype == np.float32
    assert softmax(np.float32([1, 2]), temperature=np.float64(2)).dtype == np.float32


def test_arguments_are_left_alone(array):
    x = array([[np.inf, 1.0, -np.inf], [3.0, 2.0, 1.0]])
    before = np.asarray(x).copy()
    for function in EVERY:
        function(x)
    np.testing.assert_array_equal(np.asarray(x), before)


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_are_not_looked_at_away_from_the_cpu(function, dtype):
    # A tensor without values stands for one on a GPU, where looking at a value waits for the device.
    x = torch.empty(3, 4, dtype=dtype, device="meta", requires_grad=True)
    for options in ({}, {"temperature": 2.0}, {"where": torch.ones(4, dtype=torch.bool, device="meta")}):
        result = function(x, **options)
        assert result.dtype == dtype
        result.sum().backward()
        assert x.grad.shape == x.shape
    with pytest.raises(RuntimeError):
        bool(x.isfinite().all())


@pytest.mark.parametrize("function", EVERY)
def test_compile_to_one_graph(function):
    x = torch.tensor([[torch.inf, 0.0, torch.inf], [-torch.inf] * 3, [1.0, 0.5, -1.0]])
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, temperature=0.5), function(x, temperature=0.5))
