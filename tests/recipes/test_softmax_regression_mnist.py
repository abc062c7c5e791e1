"""The objective's gradient is its formula, and the estimator reaches what L-BFGS approaches."""

import numpy as np
import pytest
import torch

from widemax.recipes import softmax_regression_mnist as recipe
from widemax.recipes.images import Images


def some_digits(num_rows=200, seed=0):
    """Images of noise whose left half is brighter in one class than in the next."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(num_rows) % 10
    pixels_NHW = torch.randint(0, 100, (num_rows, 28, 28), generator=generator)
    pixels_NHW[:, :, :14] += 15 * labels_N[:, None, None]
    return Images(pixels_NHW.to(torch.uint8), labels_N)


def test_the_formula_agrees_with_differences_and_with_autograd(monkeypatch):
    digits = some_digits(50)
    assert recipe.check_gradient(digits, seed=0) < 1e-8
    weight_CD = torch.randn(10, 784, dtype=torch.float64, requires_grad=True)
    rows_ND = digits.unit.flatten(1).double()
    (expected_CD,) = torch.autograd.grad(recipe.cost(weight_CD, rows_ND, digits.labels_N), weight_CD)
    torch.testing.assert_close(recipe.gradient(weight_CD, rows_ND, digits.labels_N), expected_CD)

    right = recipe.gradient
    monkeypatch.setattr(
        recipe, "gradient", lambda *arguments: right(*arguments) - recipe.DECAY * arguments[0]
    )
    assert recipe.check_gradient(digits, seed=0) > 1e-5


def test_the_estimator_solves_the_exercise():
    digits = some_digits()
    model = recipe.fit(digits, seed=0)
    rows_ND = torch.tensor(recipe.rows_of(digits), dtype=torch.float64)
    weight_CD = torch.tensor(model.coef_, dtype=torch.float64)
    assert float(recipe.cost(weight_CD, rows_ND, digits.labels_N)) == pytest.approx(
        model.objective_, rel=1e-6
    )
    _, peer = recipe.lbfgs(digits)
    assert model.objective_ <= peer * (1 + 1e-6)
    assert not np.any(model.intercept_)
