"""The losses are what they say, the net has two features, and center loss gathers them."""

import pytest
import torch
from made_digits import some_digits

from widemax.recipes.center_loss_mnist import Net, Trial, contrastive_loss, spread
from widemax.recipes.images import descend


def test_contrastive_loss_by_loops():
    hidden = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 2, 1, 1, 0])
    terms = []
    for one in range(7):
        for other in range(one):
            distance = float((hidden[one] - hidden[other]).norm())
            same = labels[one] == labels[other]
            terms.append(distance**2 / 2 if same else max(0.0, 1.5 - distance) ** 2 / 2)
    assert float(contrastive_loss(hidden, labels, margin=1.5)) == pytest.approx(sum(terms) / 21)
    assert float(contrastive_loss(hidden, labels.flip(0), margin=1.5)) != pytest.approx(sum(terms) / 21)


def test_spread_of_two_pairs():
    features = torch.tensor([[0.0, 1.0], [0.0, -1.0], [10.0, 1.0], [10.0, -1.0]])
    assert spread(features, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.1)
    assert spread(features, torch.tensor([0, 1, 0, 1])) == pytest.approx(2.5)


def test_the_loss_is_the_sum_of_its_parts():
    digits = some_digits(20)
    net = Net(seed=0, center=0.5, contrastive=0.3)
    net.center_loss.centers.normal_()
    net.eval()
    hidden_B2 = net.features(digits)
    assert hidden_B2.shape == (20, 2)
    distances_B = (hidden_B2 - net.center_loss.centers[digits.labels_N]).square().sum(1)
    expected = net.head(hidden_B2, digits.labels_N) + 0.25 * distances_B.mean()
    expected = expected + 0.3 * contrastive_loss(hidden_B2, digits.labels_N)
    torch.testing.assert_close(net(digits), expected)


def test_center_loss_gathers_and_the_same_seed_gives_the_same_net():
    digits = some_digits()
    trials = []
    for center in (0.0, 1.0, 1.0):
        net = Net(seed=0, center=center)
        descend(net, digits, net, epochs=4, rate=2e-3, seed=0)
        trials.append(Trial.of(net, digits, seed=0))
    assert trials[1].ratio < trials[0].ratio
    assert trials[1].ratio == trials[2].ratio
    assert (trials[1].features_B2 == trials[2].features_B2).all()
