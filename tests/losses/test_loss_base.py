"""The one place that divides."""

import pytest
import torch

from widemax.errors import LabelError, UsageError
from widemax.losses import check_labels, reduce_loss

LOSS = torch.tensor([1.0, 2.0, 6.0])
WEIGHT = torch.tensor([1, 0, 3])


def test_reductions():
    assert reduce_loss(LOSS) == 3
    assert reduce_loss(LOSS, reduction="sum") == 9
    assert reduce_loss(LOSS, reduction="none").tolist() == [1, 2, 6]
    assert reduce_loss(LOSS, sample_weight=WEIGHT) == 19 / 4
    assert reduce_loss(LOSS, sample_weight=WEIGHT, reduction="sum") == 19
    assert reduce_loss(LOSS, sample_weight=WEIGHT, reduction="none").tolist() == [1, 0, 18]


def test_a_mean_over_nothing_is_zero_and_so_is_its_gradient():
    assert reduce_loss(LOSS[:0]) == 0
    loss = LOSS.clone().requires_grad_()
    mean = reduce_loss(loss, sample_weight=torch.zeros(3))
    mean.backward()
    assert mean == 0
    assert loss.grad.tolist() == [0, 0, 0]


def test_unknown_reductions_are_refused():
    with pytest.raises(UsageError, match="'average'"):
        reduce_loss(LOSS, reduction="average")


def test_bad_labels_are_named_by_the_row_they_belong_to():
    check_labels(torch.tensor([0, 4]), 5)
    with pytest.raises(LabelError, match="got 5 at row 2"):
        check_labels(torch.tensor([0, 4, 5]), 5, rows=torch.tensor([0, 0, 2]))
