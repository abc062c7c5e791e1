"""check_loss passes torch's own losses where they obey, and catches each defect by the law it breaks."""

import pytest
import torch
from torch.nn import functional as F

from widemax.losses import binary_cross_entropy, cross_entropy, losses
from widemax.testing import ConformanceError, check_loss

LAWS = 15


def test_right_losses_pass():
    report = check_loss(cross_entropy)
    assert len(report.held) == LAWS
    assert report.skipped == {}
    assert check_loss(cross_entropy, label_smoothing=0.1, z_loss=1e-3).skipped == {}
    assert set(check_loss(binary_cross_entropy).skipped) == {"ignored rows"}


def test_a_loss_is_given_what_it_declares():
    seen = []

    @losses.declare(of="cosines")
    def of_cosines(cosines, labels):
        seen.append((cosines, labels))
        return cross_entropy(10 * cosines, labels)

    assert set(check_loss(of_cosines).skipped) == {"masked classes", "ignored rows"}
    assert all(not len(cosines) or cosines.abs().max() <= 1 for cosines, _ in seen)
    assert all(labels.ndim == 1 for _, labels in seen)


# Each a wrong twin of cross-entropy, or of binary cross-entropy where it takes targets.


def reduced(logits, labels):
    return cross_entropy(logits, labels).mean()


def cast_down(logits, labels):
    return cross_entropy(logits.float(), labels)


def fails_with_one_class(logits, labels):
    if logits.shape[1] == 1:
        raise ValueError("at least 2 classes")
    return cross_entropy(logits, labels)


def nan_without_rows(logits, labels):
    assert len(logits)
    return cross_entropy(logits, labels)


def half_the_gradient(logits, labels):
    halved = 0.5 * logits + 0.5 * logits.detach()
    return cross_entropy(halved, labels)


class OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels):
        probs = logits.softmax(1)
        ctx.save_for_backward(probs, labels)
        return -probs.log().gather(1, labels[:, None]).squeeze(1)

    @staticmethod
    def backward(ctx, grad):
        probs, labels = ctx.saved_tensors
        return grad[:, None] * (probs - F.one_hot(labels, probs.shape[1])), None


def once_differentiable(logits, labels):
    cross_entropy(logits, labels)
    return OnceOnly.apply(logits, labels)


def wrong_sign(logits, labels):
    return -cross_entropy(logits, labels)


@losses.declare(takes="targets")
def powered(logits, targets):
    """F9: gBCE by way of float64, a power and a clamp."""
    beta = 0.1
    prob = torch.sigmoid(logits.double()).clamp(1e-10, 1 - 1e-10) ** beta
    log_odds = torch.log(prob / (1 - prob)).to(logits.dtype)
    return binary_cross_entropy(torch.where(targets > 0, log_odds, logits), targets)


def overflowing(logits, labels):
    cross_entropy(logits, labels)
    return logits.exp().sum(1).log() - logits.gather(1, labels[:, None]).squeeze(1)


def overflowing_later(logits, labels):
    return cross_entropy(logits, labels) + 0 * logits.square().sum(1)


def counts_masked(logits, labels):
    return cross_entropy(logits, labels) / logits.shape[1]


def added_epsilon(logits, labels):
    cross_entropy(logits, labels)
    return -(logits.softmax(1) + 1e-8).log().gather(1, labels[:, None]).squeeze(1)


def coarse(logits, labels):
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = (16 * logits).round() / 16
    return cross_entropy(logits, labels)


def rows_mixed(logits, labels):
    places = torch.arange(1, len(logits) + 1, dtype=logits.dtype)
    return cross_entropy(logits, labels) * places


def padding_class(logits, labels):
    return cross_entropy(logits, labels) * torch.where(labels == 0, 0.5, 1.0)


def zero_rows(logits, labels):
    """F.one_hot's tolerant cousins: a label outside is a row of zeros, and a loss of 0."""
    inside = labels < logits.shape[1]
    return cross_entropy(logits, labels.where(inside, 0)).masked_fill(~inside, 0.0)


def unnamed_row(logits, labels):
    if (labels >= logits.shape[1]).any():
        raise IndexError("Target 99 is out of bounds.")
    return cross_entropy(logits, labels)


def ignored_as_zero(logits, labels, *, ignore_index=-100):
    loss_B = cross_entropy(logits, labels, ignore_index=ignore_index)
    return torch.where(labels == ignore_index, cross_entropy(logits, labels.clamp(min=0)), loss_B)


@losses.declare(takes="targets")
def broadcasting(logits, targets):
    targets = targets if targets.shape == logits.shape else targets[:, :1].expand_as(logits)
    return binary_cross_entropy(logits, targets)


DEFECTS = {
    reduced: "one number a row",
    cast_down: "one number a row",
    fails_with_one_class: "few classes",
    nan_without_rows: "empty batch",
    half_the_gradient: "gradient",
    once_differentiable: "second derivatives",
    wrong_sign: "rewards the truth",
    powered: "saturation",
    overflowing: "saturation",
    overflowing_later: "extremes",
    counts_masked: "masked classes",
    added_epsilon: "saturation",
    coarse: "half precision",
    rows_mixed: "order of rows",
    padding_class: "order of classes",
    zero_rows: "labels outside",
    unnamed_row: "labels outside",
    broadcasting: "labels outside",
    ignored_as_zero: "ignored rows",
}


@pytest.mark.parametrize(("loss", "law"), DEFECTS.items(), ids=[loss.__name__ for loss in DEFECTS])
def test_a_defect_is_caught(loss, law):
    with pytest.raises(ConformanceError, match=loss.__name__) as caught:
        check_loss(loss)
    assert caught.value.law == law


def test_the_saturated_gradient_is_shown():
    with pytest.raises(ConformanceError, match=r"wrong by 30 each must have a gradient, found \[0\.0\] at"):
        check_loss(powered)


def test_torch_refuses_labels_without_naming_the_row():
    def torch_loss(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")

    with pytest.raises(ConformanceError, match=r"must name \['row 1'\]") as caught:
        check_loss(torch_loss)
    assert caught.value.law == "labels outside"
