"""One loss of two outputs, both of which learn."""

import numpy as np
import pytest
import torch
from made_digits import some_digits

from widemax.recipes.autoencoder_classifier_mnist import STRENGTH, Net, by_pca, squared_error
from widemax.recipes.images import Images, descend


def test_the_joint_loss_is_that_of_the_moved_images(monkeypatch):
    digits = some_digits(12)
    net = Net(digits, seed=0)
    moved = Images(digits.pixels_NHW.roll(1, 2), digits.labels_N)
    module = "widemax.recipes.autoencoder_classifier_mnist.augment"
    monkeypatch.setattr(module, lambda pixels, shift, flip: pixels.roll(1, 2))
    hidden_BD = net.encoder(moved.features)
    drawn_BHW = net.decoder(hidden_BD).sigmoid()
    pixels = -(moved.unit * drawn_BHW.log() + (1 - moved.unit) * (1 - drawn_BHW).log()).sum((1, 2)).mean()
    expected = net.head(hidden_BD, digits.labels_N) + STRENGTH * pixels
    torch.testing.assert_close(net(digits), expected)
    monkeypatch.undo()
    assert not torch.allclose(net.eval()(digits), expected, rtol=1e-4)


def test_both_outputs_learn_and_the_same_seed_gives_the_same_net():
    digits = some_digits()
    answers = []
    for _ in range(2):
        net = Net(digits, seed=0)
        before = net.errors(digits)
        descend(net, digits, net, epochs=6, rate=2e-3, seed=0)
        after = net.errors(digits)
        assert after[0] < before[0]
        assert after[1] < before[1] / 2
        answers.append(after)
    assert answers[0] == answers[1]
    assert net.drawn(digits).shape == digits.pixels_NHW.shape


def test_pca_and_the_squared_error():
    digits = some_digits(64)
    black = np.zeros(digits.pixels_NHW.shape, np.float32)
    assert squared_error(black, digits) == pytest.approx(float(digits.unit.square().sum() / 64), rel=1e-5)
    assert squared_error(by_pca(digits, digits), digits) < squared_error(black, digits) / 4
