"""The one place that divides."""

import pytest
import torch

from widemax.errors import LabelError, ShapeError, UsageError
from widemax.losses import check_labels, reduce_loss, row_weights

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


@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (3,), (1,), ()], ids=str)
def test_weights_are_one_a_row(shape):
    for reduce in (reduce_loss, row_weights):
        with pytest.raises(ShapeError, match=r"sample_weight must be \[2\], one weight a row; got shape"):
            reduce(torch.tensor([1.0, 3.0]), sample_weight=torch.ones(shape))


def test_sums_of_16_bit_losses_and_weights_are_taken_in_float32():
    loss_B = torch.full((5000,), 30.0, dtype=torch.float16)
    weight_B = torch.full((5000,), 0.1, dtype=torch.bfloat16)
    assert loss_B.sum() == torch.inf
    assert reduce_loss(loss_B) == 30
    assert reduce_loss(loss_B, reduction="sum") == 150_000
    assert reduce_loss(loss_B, reduction="none").dtype == torch.float32
    torch.testing.assert_close(reduce_loss(loss_B, sample_weight=weight_B), torch.tensor(30.0))
    torch.testing.assert_close(
        reduce_loss(loss_B, sample_weight=weight_B, reduction="sum"), 30 * weight_B.float().sum()
    )
