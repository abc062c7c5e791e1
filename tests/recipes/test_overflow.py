"""The textbook's softmax fails where it must, and limits are found by bisection."""

import numpy as np
import pytest

from widemax.numerics import softmax
from widemax.recipes.overflow import DTYPES, largest, textbook_log_softmax, textbook_softmax


def test_the_textbook_agrees_where_nothing_overflows():
    logits = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(textbook_softmax(logits), softmax(logits), rtol=1e-15)
    np.testing.assert_allclose(np.exp(textbook_log_softmax(logits)), softmax(logits), rtol=1e-15)


@pytest.mark.parametrize(("name", "offset"), [("float16", 12), ("float32", 89), ("float64", 710)])
def test_the_textbook_fails_where_exp_leaves_the_type(name, offset):
    logits = np.array([0.0, 1.0], dtype=DTYPES[name])
    assert np.isfinite(textbook_softmax(logits)).all()
    assert np.isnan(textbook_softmax(logits + DTYPES[name](offset))).any()
    assert np.isfinite(softmax(logits + DTYPES[name](offset))).all()


def test_bisection_finds_the_largest():
    assert largest(lambda x: x * x <= 2, 10.0) == pytest.approx(2**0.5, abs=1e-12)
