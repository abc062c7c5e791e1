"""Several centers a class: the nearest counts, and a margin only in training."""

import pytest
import torch

from widemax.errors import ConfigError
from widemax.heads import ExactHead, SeveralLabels
from widemax.heads.sub_center import SubCenterHead
from widemax.losses import arcface, sub_center_cosines

B, C, D, K = 5, 9, 4, 3
LABELS = torch.tensor([0, 8, 3, 3, 5])


def build(**options):
    torch.manual_seed(0)
    return SubCenterHead(C, D, num_centers=K, **{"temperature": 0.1} | options).double()


def some_hidden():
    return torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_loss_is_that_of_the_cosines():
    head, hidden = build(score={"kind": "arcface", "margin_radians": 0.3}), some_hidden()
    cosines = sub_center_cosines(hidden, head.weight)
    expected = arcface(cosines, LABELS, scale=10.0, margin_radians=0.3)
    torch.testing.assert_close(head(hidden, LABELS, reduction="none"), expected)
    with torch.no_grad():
        torch.testing.assert_close(head(hidden, LABELS, reduction="none"), expected)
    plain = build(score="cosine")
    assert not torch.allclose(plain(hidden, LABELS, reduction="none"), expected)


def test_answers_have_no_margin():
    head, hidden = build(), some_hidden()
    expected = torch.log_softmax(sub_center_cosines(hidden, head.weight) / 0.1, 1)
    torch.testing.assert_close(head.log_probs(hidden, torch.arange(C)), expected)
    torch.testing.assert_close(head.answer(hidden, LABELS, k=2).label_log_probs, expected[range(B), LABELS])
    head.calibration_temperature.fill_(2.0)
    torch.testing.assert_close(head.log_probs(hidden, torch.arange(C)), torch.log_softmax(expected / 2, 1))


def test_one_center_is_a_cosine_head():
    head, hidden = build(score="cosface"), some_hidden()
    single = SubCenterHead(C, D, num_centers=1, score="cosface", temperature=0.1).double()
    exact = ExactHead(C, D, score="cosface", temperature=0.1, bias=False).double()
    with torch.no_grad():
        exact.weight.copy_(single.weight[:, 0])
    several = SeveralLabels(torch.tensor([1, 2, 0, 3, 4, 5]), torch.tensor([0, 2, 3, 4, 5, 6]))
    for labels in (LABELS, several):
        torch.testing.assert_close(single(hidden, labels), exact(hidden, labels))
        assert not torch.isclose(head(hidden, labels), exact(hidden, labels))


def test_gradcheck():
    head = build()

    def loss(hidden, weight):
        return torch.func.functional_call(head, {"weight": weight}, (hidden, LABELS))

    assert torch.autograd.gradcheck(
        loss, (some_hidden().requires_grad_(), head.weight.detach().requires_grad_())
    )


def test_a_score_that_is_no_cosine_is_refused():
    with pytest.raises(ConfigError, match="score must be a cosine"):
        build(score="dot")
