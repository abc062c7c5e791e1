"""The one place that divides."""

from functools import partial

import pytest
import torch

from widemax.errors import LabelError, OptionError, ShapeError, UsageError
from widemax.losses import (
    adaface_margin,
    adaface_quality,
    arcface_margin,
    binary_cross_entropy,
    check_labels,
    cosface_margin,
    cross_entropy,
    focal,
    gbce_beta,
    losses,
    reduce_loss,
    row_weights,
)

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


NUMBERS = [-1.0, torch.nan, torch.inf]


@pytest.mark.parametrize("number", NUMBERS)
def test_weights_of_rows_are_finite_and_not_negative(number):
    for reduce in (reduce_loss, row_weights):
        with pytest.raises(OptionError, match=f"sample_weight must be finite .* 0; got {number} at place 2."):
            reduce(LOSS, sample_weight=torch.tensor([1.0, 0.0, number]))
    with pytest.raises(OptionError, match="sample_weight must be finite"):
        reduce_loss(LOSS, sample_weight=torch.ones(3) * 1j)


@pytest.mark.parametrize(
    ("loss", "option"),
    [(cross_entropy, "class_weight"), (focal, "class_weight"), (binary_cross_entropy, "positive_weight")],
)
def test_factors_of_classes_are_one_a_class_finite_and_not_negative(loss, option):
    truth = torch.eye(4)[:2] if loss is binary_cross_entropy else torch.tensor([0, 1])
    logits = torch.zeros(2, 4)
    for number in NUMBERS:
        with pytest.raises(OptionError, match=f"{option} must be finite .* 0; got {number} at place 3."):
            loss(logits, truth, **{option: torch.tensor([1.0, 1.0, 1.0, number])})
    for shape in [(9,), (1,), (2, 4)]:
        with pytest.raises(ShapeError, match=rf"{option} must be \[4\], one factor a class; got shape"):
            loss(logits, truth, **{option: torch.ones(shape)})
    twice = loss(logits, truth, **{option: torch.full((4,), 2.0)})
    assert torch.equal(loss(logits, truth, **{option: torch.tensor(2.0)}), twice)


@pytest.mark.parametrize("name", [name for name in losses if losses.traits(name).takes == "targets"])
@pytest.mark.parametrize("number", [-0.5, 2.0, torch.nan])
def test_targets_lie_between_0_and_1(name, number):
    with pytest.raises(LabelError, match=rf"targets must be numbers in \[0, 1\]; got {number} at place 1, 2"):
        losses[name](torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, number]]))


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        (partial(cosface_margin, torch.zeros(1)), {"margin": -1.0}),
        (partial(arcface_margin, torch.zeros(1)), {"margin_radians": 4.0}),
        (partial(adaface_margin, torch.zeros(1), torch.zeros(1)), {"margin": torch.nan}),
        (partial(adaface_quality, torch.ones(1)), {"spread": 0.0}),
        (gbce_beta, {"calibration": 2.0, "sampling_rate": 0.5}),
        (gbce_beta, {"sampling_rate": 0.0, "calibration": 0.5}),
    ],
)
def test_the_parts_of_losses_keep_the_ranges_of_losses(function, wrong):
    with pytest.raises(OptionError, match=f"option '{next(iter(wrong))}' of .* must be a number"):
        function(**wrong)


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
