"""Multi-positive softmax, gBCE, BPR and InfoNCE against worked values and their mistaken forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from widemax.losses import binary_cross_entropy, bpr, cross_entropy, gbce, info_nce, multi_positive_softmax
from widemax.losses.gbce import gbce_beta

LABELS = torch.tensor([0, 6, 3, 3, 1])


@pytest.fixture
def logits():
    return 2 * torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# Multi-positive softmax.


def test_one_positive_is_cross_entropy(logits):
    torch.testing.assert_close(
        multi_positive_softmax(logits, F.one_hot(LABELS, 7)), cross_entropy(logits, LABELS)
    )


def test_each_positive_is_contrasted_with_the_negatives_alone(logits):
    targets = torch.tensor([[1, 0, 1, 0, 0, 1, 0]]).expand(5, 7)
    wrong = [1, 3, 4, 6]
    each = [cross_entropy(logits[:, [right, *wrong]], torch.zeros(5).long()) for right in (0, 2, 5)]
    actual = multi_positive_softmax(logits, targets)
    torch.testing.assert_close(actual, torch.stack(each).mean(0))
    unmasked = cross_entropy(logits, targets / 3)
    assert (unmasked > actual).all()
    # A positive does not push another one down.
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(multi_positive_softmax(logits, targets).sum(), logits)
    assert (gradient[:, [0, 2, 5]] < 0).all()


def test_positives_are_weighted_by_their_target(logits):
    targets = torch.tensor([[1.0, 0.5, 0, 0, 0, 0, 0]]).expand(5, 7)
    first = multi_positive_softmax(logits[:, [0, 2, 3, 4, 5, 6]], torch.eye(6)[:1].expand(5, 6))
    second = multi_positive_softmax(logits[:, 1:], torch.eye(6)[:1].expand(5, 6))
    torch.testing.assert_close(multi_positive_softmax(logits, targets), (first + second / 2) / 1.5)


def test_rows_of_only_one_kind_cost_nothing(logits):
    for targets in (torch.zeros(5, 7), torch.ones(5, 7)):
        x = logits.clone().requires_grad_()
        loss = multi_positive_softmax(x, targets)
        loss.sum().backward()
        assert loss.tolist() == [0] * 5
        assert x.grad.abs().sum() == 0


# gBCE.


def test_gbce_does_not_saturate():
    logits = torch.tensor([[-50.0]], requires_grad=True)
    one = torch.ones(1, 1)
    loss = gbce(logits, one, calibration=1.0, sampling_rate=0.1)
    loss.sum().backward()
    assert loss.item() == pytest.approx(5.0)
    assert logits.grad.item() == pytest.approx(-0.1)
    # By power and clamp, as it is usually written.
    wrong = logits.detach().double().requires_grad_()
    clamped = -(wrong.sigmoid() ** 0.1).clamp(1e-1, 1 - 1e-10).log()
    clamped.sum().backward()
    assert clamped.item() == pytest.approx(2.30, abs=0.01)
    assert wrong.grad.item() == 0


def test_gbce_beta_is_that_of_the_paper():
    for rate in (0.01, 0.3, 1.0):
        for calibration in (0.0, 0.75, 1.0):
            paper = rate * ((1 - 1 / rate) * calibration + 1 / rate)
            assert gbce_beta(calibration=calibration, sampling_rate=rate) == pytest.approx(paper)
    assert gbce_beta(calibration=0.0, sampling_rate=0.2) == 1
    assert gbce_beta(calibration=1.0, sampling_rate=0.2) == pytest.approx(0.2)


def test_gbce_is_binary_cross_entropy_without_calibration(logits):
    targets = F.one_hot(LABELS, 7)
    expected = binary_cross_entropy(logits, targets)
    torch.testing.assert_close(gbce(logits, targets, calibration=0.0, sampling_rate=0.2), expected)
    power = torch.sigmoid(logits).gather(1, LABELS[:, None]).squeeze(1) ** 0.4
    rest = torch.where(targets == 1, 0, F.softplus(logits)).sum(1)
    actual = gbce(logits, targets, calibration=0.75, sampling_rate=0.2)
    torch.testing.assert_close(actual, rest - power.log())


# BPR.


def test_bpr_of_one_pair():
    loss = bpr(torch.tensor([[1.0, 3.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(2)))
    swapped = bpr(torch.tensor([[1.0, 3.0]]), torch.tensor([1]))
    assert swapped.item() == pytest.approx(math.log1p(math.exp(-2)))


def test_bpr_is_a_mean_over_wrong_classes(logits):
    gaps = logits - logits.gather(1, LABELS[:, None])
    over_all = F.softplus(gaps).mean(1)
    expected = (7 * over_all - math.log(2)) / 6
    torch.testing.assert_close(bpr(logits, LABELS), expected)
    assert not torch.allclose(bpr(logits, LABELS), over_all)


# InfoNCE.


def test_info_nce_divides_by_the_temperature():
    generator = torch.Generator().manual_seed(0)
    one = F.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    other = F.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    expected = F.cross_entropy(one @ other.T / 0.2, torch.arange(4), reduction="none")
    torch.testing.assert_close(info_nce(one @ other.T, torch.arange(4), temperature=0.2), expected)
    assert not torch.allclose(info_nce(one @ other.T, torch.arange(4), temperature=5.0), expected)


def test_info_nce_divides_half_precision_in_float32():
    logits = torch.tensor([[1.0, 0.9]], dtype=torch.bfloat16)
    torch.testing.assert_close(
        info_nce(logits, torch.tensor([1])), info_nce(logits.float(), torch.tensor([1])), rtol=0, atol=0
    )
