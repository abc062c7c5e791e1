"""The network in NumPy, in autograd and by differences is one network, and both nets learn."""

import numpy as np
import pytest
import torch

from widemax.recipes import cnn_mnist as recipe
from widemax.recipes import numpy_cnn
from widemax.recipes.images import Images, descend


def some_digits(num_rows=256, seed=0):
    """Images of noise with a bar whose height is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(num_rows) % 10
    pixels_NHW = torch.randint(0, 60, (num_rows, 28, 28), generator=generator)
    rows_H = torch.arange(28)
    pixels_NHW += (
        150 * ((rows_H >= 4 + 2 * labels_N[:, None]) & (rows_H < 8 + 2 * labels_N[:, None]))[..., None]
    )
    return Images(pixels_NHW.to(torch.uint8), labels_N)


def test_convolution_and_pooling_by_loops():
    generator = np.random.default_rng(0)
    images_BHW, filters_FKK = generator.normal(size=(2, 6, 6)), generator.normal(size=(3, 3, 3))
    offsets_F = generator.normal(size=3)
    maps_BFGG = numpy_cnn.convolve(images_BHW, filters_FKK, offsets_F)
    for b, f, g, h in np.ndindex(2, 3, 4, 4):
        total = (images_BHW[b, g : g + 3, h : h + 3] * filters_FKK[f]).sum() + offsets_F[f]
        assert maps_BFGG[b, f, g, h] == pytest.approx(1 / (1 + np.exp(-total)))
    pooled_BFQQ = numpy_cnn.mean_pool(maps_BFGG, 2)
    assert pooled_BFQQ[1, 2, 0, 1] == pytest.approx(maps_BFGG[1, 2, :2, 2:].mean())


def test_numpy_autograd_and_differences_agree(monkeypatch):
    digits = some_digits(4)
    assert recipe.check_by_autograd(digits, seed=0) < 1e-12
    assert recipe.check_by_differences(digits, seed=0) < 1e-8

    # A pooling that passes the error on without sharing it among its pixels.
    right = numpy_cnn.gradient

    def wrong(*arguments, pool):
        answer = right(*arguments, pool=pool)
        return answer._replace(filters_FKK=answer.filters_FKK * pool**2)

    monkeypatch.setattr(numpy_cnn, "gradient", wrong)
    assert recipe.check_by_autograd(digits, seed=0) > 0.1
    assert recipe.check_by_differences(digits, seed=0) > 0.01


def test_differences_leave_the_array_as_it_was():
    array = np.array([1.0, -2.0])
    np.testing.assert_allclose(recipe.differences(lambda: float((array**2).sum()), array), [2, -4])
    np.testing.assert_array_equal(array, [1, -2])


def test_the_steps_are_those_of_the_exercise():
    digits = some_digits(21 * 256)
    net, velocity, it = recipe.Net(0, filters=1, pool=10), None, 0
    weights = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    costs_N = recipe.fit(net, digits, epochs=2, seed=0)
    again = recipe.Net(0, filters=1, pool=10)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(2):
        order = torch.randperm(len(digits), generator=generator)
        for start in range(0, len(digits) - 255, 256):
            it += 1
            rows = order[start : start + 256]
            loss = again(digits.unit[rows], digits.labels_N[rows])
            assert costs_N[it - 1] == pytest.approx(loss.item(), rel=1e-4)
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*again.parameters()])])
            velocity = (0.5 if it < 20 else 0.95) * (0 if velocity is None else velocity)
            velocity = velocity + 0.1 / 2**epoch * gradient
            weights = weights - velocity
            torch.nn.utils.vector_to_parameters(weights, again.parameters())
    assert it == len(costs_N) == 42
    assert costs_N[-1] < costs_N[0]


def test_the_modern_net_learns_and_the_same_seed_gives_the_same_net():
    digits = some_digits()
    answers = []
    for _ in range(2):
        net = recipe.ImageClassifier(digits, 10, seed=0, **recipe.ENCODER)
        means = descend(net, digits, net, epochs=6, rate=2e-3, seed=0)
        assert means[-1] < means[0]
        answers.append(net.probs(digits))
    np.testing.assert_array_equal(*answers)
    np.testing.assert_allclose(answers[0].sum(axis=1), 1, rtol=1e-5)
    assert (answers[0].argmax(axis=1) == digits.labels_N.numpy()).mean() > 0.5
