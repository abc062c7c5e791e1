"""What the functions of numerics refuse, and how they say so."""

import inspect

import numpy as np
import pytest
import torch

import widemax.numerics as numerics
from widemax.errors import ShapeError, UsageError, WidemaxError
from widemax.numerics import (
    attention,
    entmax15,
    entropy,
    gumbel_softmax,
    kl_divergence,
    log_sigmoid,
    log_softmax,
    logsumexp,
    sigmoid,
    softmax,
    sparsemax,
)

TEMPERED = [softmax, log_softmax, logsumexp, sparsemax, entmax15, gumbel_softmax]
MAKERS = {"numpy": np.ones, "torch": torch.ones}


@pytest.fixture(params=MAKERS)
def x(request):
    return MAKERS[request.param]((3, 4))


def test_public_names_are_sorted_and_keep_their_signatures():
    assert numerics.__all__ == sorted(numerics.__all__)
    assert str(inspect.signature(softmax)).startswith("(x: ~Array, *, axis: int = -1, temperature: ")


@pytest.mark.parametrize("function", [*TEMPERED, entropy])
@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (2, ShapeError, r"axis must lie in \[-2, 2\) for x of shape \(3, 4\); got 2\."),
        (-3, ShapeError, r"axis must lie in \[-2, 2\)"),
        (np.int64(5), ShapeError, r"got 5\."),
        ((0, 1), TypeError, r"'axis' of \w+ must be a whole number; got \(0, 1\)\."),
        (True, TypeError, "must be a whole number; got True"),
        (None, TypeError, "must be a whole number; got None"),
        (1.0, TypeError, r"must be a whole number; got 1\.0"),
    ],
)
def test_axis(function, x, axis, error, message):
    with pytest.raises(error, match=message) as caught:
        function(x, axis=axis)
    assert isinstance(caught.value, UsageError)


def test_numpy_integers_are_an_axis(x):
    np.testing.assert_array_equal(np.asarray(softmax(x, axis=np.int64(0))), np.asarray(softmax(x, axis=0)))


@pytest.mark.parametrize("function", [*TEMPERED, entropy])
@pytest.mark.parametrize("scalar", [1.0, np.float64(1), np.array(1.0), torch.tensor(1.0)], ids=repr)
def test_single_numbers_are_refused(function, scalar):
    with pytest.raises(ShapeError, match="x must have at least one axis"):
        function(scalar)


def test_sigmoids_take_single_numbers():
    assert float(sigmoid(0.0)) == 0.5
    assert float(log_sigmoid(torch.tensor(0.0))) == pytest.approx(-np.log(2))


@pytest.mark.parametrize("function", [*TEMPERED, entropy, sigmoid, log_sigmoid])
@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ("logits", "<U6 data"),
        (None, "NoneType"),
        ({"a": 1}, "dict"),
        (np.array([1j]), "complex128 data"),
        (torch.tensor([1j]), "a tensor of torch.complex64"),
    ],
    ids=repr,
)
def test_neither_an_array_nor_a_tensor(function, wrong, got):
    with pytest.raises(
        TypeError, match=f"x must be a NumPy array or torch tensor of real numbers; got {got}"
    ):
        function(wrong)


def test_ragged_lists_are_refused():
    with pytest.raises(ShapeError, match="rows of one length; got a ragged list"):
        softmax([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize("function", TEMPERED)
@pytest.mark.parametrize("temperature", [0, -1.0, np.inf, np.nan, -np.inf])
def test_temperature_out_of_range(function, x, temperature):
    with pytest.raises(UsageError, match=r"'temperature' of \w+ must be a number above 0\.0; got"):
        function(x, temperature=temperature)


@pytest.mark.parametrize("temperature", ["1", None, torch.tensor(1.0), np.ones(3)], ids=repr)
def test_temperature_of_another_kind(x, temperature):
    with pytest.raises(TypeError, match="'temperature' of softmax must be a number above"):
        softmax(x, temperature=temperature)


@pytest.mark.parametrize("function", TEMPERED)
def test_masks(function, x):
    make = MAKERS["torch" if isinstance(x, torch.Tensor) else "numpy"]
    with pytest.raises(TypeError, match=r"where must be boolean, .*; got (int|float)"):
        function(x, where=make((3, 4)))
    for shape in [(2, 4), (3,), (1, 3, 4)]:
        with pytest.raises(ShapeError, match=r"where must broadcast to \(3, 4\); got shape"):
            function(x, where=make(shape) > 0)
    other = MAKERS["numpy" if isinstance(x, torch.Tensor) else "torch"]
    with pytest.raises(TypeError, match=r"where must be a boolean .*, as x is one"):
        function(x, where=other((3, 4)) > 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: softmax(x, dim=0), "softmax has no option 'dim'; did you mean 'axis'?"),
        (lambda x: logsumexp(x, tau=2.0), "logsumexp has no option 'tau'; did you mean 'temperature'?"),
        (lambda x: sparsemax(x, mask=None), "sparsemax has no option 'mask'; did you mean 'where'?"),
        (lambda x: softmax(x, temprature=2.0), "did you mean 'temperature'?"),
        (lambda x: softmax(x, dtype=None), "choose one of ['x', 'axis', 'temperature', 'where']"),
        (lambda x: gumbel_softmax(x, rng=None), "did you mean 'generator'?"),
        (lambda x: attention(x, x, x, attn_mask=None), "did you mean 'where'?"),
        (
            lambda x: softmax(x, 0),
            "takes x by position; got 2 arguments. Pass by keyword: axis, temperature, where.",
        ),
        (lambda x: kl_divergence(x, x, True), "takes p and q by position; got 3"),
    ],
)
def test_wrong_calls_say_what_is_right(call, message, x):
    with pytest.raises(TypeError) as caught:
        call(x)
    assert message in str(caught.value)
    assert isinstance(caught.value, WidemaxError)


def test_a_missing_argument_is_named():
    with pytest.raises(WidemaxError, match="option 'x' of softmax is missing"):
        softmax()
