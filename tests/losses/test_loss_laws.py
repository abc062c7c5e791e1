"""Laws that every registered loss obeys, and the mistakes they find. Shapes: B rows, C classes."""

import inspect
from pathlib import Path

import pytest
import torch
from loss_table import CASES
from torch.nn import functional as F

from widemax.errors import ConfigError, LabelError, ShapeError
from widemax.losses import losses

B, C = 6, 5
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
OF_IDS = [case for case in CASES.values() if case.takes != "targets"]
IDS = pytest.mark.parametrize("case", OF_IDS, ids=lambda case: case.name)
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def value_and_gradient(loss, logits, labels):
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), gradient


def test_every_loss_is_in_the_table_or_has_a_test_of_its_own():
    own = {name for name in losses if losses[name].__module__.startswith("widemax.")}
    assert set(CASES) <= own
    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert own <= set(CASES) | tested


@ALL
def test_the_second_parameter_says_what_a_loss_takes(case):
    second = list(inspect.signature(losses[case.name]).parameters)[1]
    assert second == ("targets" if case.takes == "targets" else "labels")


# Values and derivatives.


def check_value(case, loss):
    logits, labels = case.logits(B, C), case.labels(B, C)
    value = loss(logits, labels)
    assert value.shape == (B,)
    torch.testing.assert_close(value, case.truth(logits, labels), rtol=1e-11, atol=1e-13)


@ALL
def test_value_is_that_of_the_formula(case):
    check_value(case, case)


@ALL
def test_derivatives_are_those_of_the_value(case):
    logits, labels = case.logits(3, 3).requires_grad_(), case.labels(3, 3)
    assert torch.autograd.gradcheck(lambda x: case(x, labels), logits)
    assert torch.autograd.gradgradcheck(lambda x: case(x, labels), logits)
    _, gradient = value_and_gradient(case, logits.detach(), labels)
    functional = torch.func.grad(lambda x: case(x, labels).sum())(logits.detach())
    torch.testing.assert_close(functional, gradient)
    assert gradient.abs().sum() > 0


@ALL
def test_classes_have_no_order_and_rows_no_neighbors(case):
    logits, labels = case.logits(B, C), case.labels(B, C)
    value = case(logits, labels)
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = labels[:, order] if case.takes == "targets" else order.argsort()[labels]
    torch.testing.assert_close(case(logits[:, order], moved), value)
    torch.testing.assert_close(case(logits[:2], labels[:2]), value[:2])


# Extremes.

EXTREMES = torch.cartesian_prod(*3 * [torch.tensor([-1e30, -1e4, 0.0, 1e4, 1e30])])


def check_extremes(case, loss):
    logits = EXTREMES / 1e30 if case.cosines else EXTREMES
    labels = case.labels(len(logits), 3)
    value, gradient = value_and_gradient(loss, logits, labels)
    _, exact_gradient = value_and_gradient(loss, logits.double(), labels)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(value.double(), case.truth(logits, labels), rtol=1e-5, atol=1e-5)


@ALL
def test_extreme_logits_give_right_values_and_gradients(case):
    check_extremes(case, case)


@ALL
@pytest.mark.parametrize("shape", [(0, C), (3, 1), (3, 2), (0, 1)])
def test_no_rows_one_class_and_two(case, shape):
    logits, labels = case.logits(*shape), case.labels(*shape)
    value, gradient = value_and_gradient(case, logits, labels)
    assert value.shape == shape[:1]
    assert gradient.isfinite().all()
    if shape[1] == 1 and case.takes != "targets":
        assert value.tolist() == [0] * shape[0]
    if shape[1] == 2:
        torch.testing.assert_close(value, case.truth(logits, labels), rtol=1e-11, atol=1e-13)


def check_masking(case, loss):
    """A masked class might as well not be there."""
    logits, labels = case.logits(B, C), case.labels(B, C - 1)
    logits[:, C - 1] = -torch.inf
    if case.takes == "targets":
        labels = F.pad(labels, (0, 1))
    value, gradient = value_and_gradient(loss, logits, labels)
    fewer = labels[:, :-1] if case.takes == "targets" else labels
    value_without, gradient_without = value_and_gradient(loss, logits[:, :-1], fewer)
    torch.testing.assert_close(value, value_without)
    torch.testing.assert_close(gradient[:, :-1], gradient_without)
    assert gradient[:, -1].tolist() == [0] * B
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(loss(logits, labels).sum(), logits, create_graph=True)
    if slope.requires_grad:
        (curvature,) = torch.autograd.grad(slope.square().sum(), logits)
        assert curvature.isfinite().all()


@ALL
def test_a_masked_class_might_as_well_not_be_there(case):
    check_masking(case, case)


@ALL
def test_a_masked_right_class_is_infinitely_wrong(case):
    logits, labels = case.logits(3, C), torch.tensor([1, 1, 1])
    logits[:, 1] = -torch.inf
    logits[2] = -torch.inf
    targets = F.one_hot(labels, C)
    assert case(logits, targets if case.takes == "targets" else labels).tolist() == [torch.inf] * 3


# Labels.


@pytest.mark.parametrize(
    "case", [case for case in OF_IDS if "distributions" in case.takes], ids=lambda case: case.name
)
def test_ids_are_one_hot_rows(case):
    logits, labels = case.logits(B, C), case.labels(B, C)
    for one_hot in (F.one_hot(labels, C), F.one_hot(labels, C).half()):
        torch.testing.assert_close(case(logits, one_hot), case(logits, labels))
    targets = case.logits(B, C, seed=5).softmax(1)
    assert torch.autograd.gradcheck(lambda x: case(x, targets), logits.requires_grad_())


def check_ignoring(case, loss):
    logits, labels = case.logits(B, C), case.labels(B, C)
    expected, expected_gradient = value_and_gradient(loss, logits, labels)
    labels[2] = -100
    for bad in (torch.nan, torch.inf, -torch.inf, 0.5):
        logits[2] = bad
        value, gradient = value_and_gradient(loss, logits, labels)
        expected[2], expected_gradient[2] = 0, 0
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, expected_gradient)


@IDS
def test_ignored_rows_leave_no_trace(case):
    check_ignoring(case, case)
    logits = case.logits(2, C)
    options = {"norms": torch.ones(2)} if case.name == "adaface" else {}
    value = losses[case.name](logits, torch.tensor([3, 1]), ignore_index=3, **options)
    assert value[0] == 0
    assert value[1] != 0


@IDS
def test_labels_that_do_not_fit_are_refused(case):
    logits = case.logits(B, C)
    for value in (C, -1, 10**9):
        labels = case.labels(B, C)
        labels[3] = value
        with pytest.raises(LabelError, match=rf"\[0, {C}\); got {value} at row 3"):
            case(logits, labels)
    for labels in (torch.zeros(B), torch.zeros(B, dtype=torch.bool), torch.zeros(B + 1, dtype=torch.long)):
        with pytest.raises(ShapeError, match=f"must be {B} class ids"):
            case(logits, labels)
    with pytest.raises(ShapeError, match="must be"):
        case(logits, torch.zeros(B, C + 1))
    if "distributions" not in case.takes:
        with pytest.raises(ShapeError, match="class ids"):
            case(logits, torch.full((B, C), 1 / C))


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.takes == "targets"], ids=lambda c: c.name)
def test_targets_of_another_shape_are_refused(case):
    with pytest.raises(ShapeError, match=r"targets must have the shape of logits, \(6, 5\); got \(6,\)"):
        case(case.logits(B, C), torch.zeros(B))


@ALL
def test_logits_need_two_axes(case):
    with pytest.raises(ShapeError, match=r"\[rows, classes\]; got \(4, 2, 3\)"):
        case(torch.zeros(4, 2, 3), torch.zeros(4, 2, 3) if case.takes == "targets" else torch.zeros(4).long())


# Precision.


def check_half_precision(case, loss, dtype):
    logits, labels = case.logits(B, C, dtype), case.labels(B, C)
    value, gradient = value_and_gradient(loss, logits, labels)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value, loss(logits.float(), labels), rtol=0, atol=0)


@ALL
@HALVES
def test_half_precision_is_computed_in_float32(case, dtype):
    check_half_precision(case, case, dtype)
    assert case(case.logits(B, C), case.labels(B, C)).dtype == torch.float64


TWINS = {
    "cross_entropy": lambda x, y: F.cross_entropy(x, y, reduction="none"),
    "weston_watkins": lambda x, y: x.shape[1] * F.multi_margin_loss(x, y, reduction="none"),
    "binary_cross_entropy": lambda x, y: F.binary_cross_entropy_with_logits(
        x, y.to(x.dtype), reduction="none"
    ).sum(1),
}


@HALVES
@pytest.mark.parametrize("name", TWINS)
def test_half_precision_is_no_worse_than_torch(name, dtype):
    case, num_classes = CASES[name], 300
    logits, labels = case.logits(50, num_classes, dtype), case.labels(50, num_classes)
    truth = TWINS[name](logits.double(), labels)
    error = (case(logits, labels) - truth).abs().max()
    assert error < 1e-5 * truth.abs().max()
    try:
        plain = TWINS[name](logits, labels)
    except NotImplementedError:
        return
    assert error <= (plain.double() - truth).abs().max()


# Options.

OUT_OF_RANGE = [
    ("adaface", {"norms": torch.ones(1), "margin": -0.1}),
    ("adaface", {"norms": torch.ones(1), "spread": 0}),
    ("arcface", {"margin_radians": 3.2}),
    ("arcface", {"margin_radians": -0.1}),
    ("binary_cross_entropy", {"positive_weight": 3.0}),
    ("binary_focal", {"gamma": -1}),
    ("binary_focal", {"alpha": 1.5}),
    ("bpr", {"ignore_index": 0.5}),
    ("cosface", {"margin": -1}),
    ("cosine_softmax", {"scale": 0}),
    ("crammer_singer", {"margin": -1}),
    ("cross_entropy", {"label_smoothing": 1.0}),
    ("cross_entropy", {"z_loss": -1e-4}),
    ("cross_entropy", {"softcap": 0}),
    ("focal", {"gamma": -1}),
    ("gbce", {"calibration": 1.1}),
    ("gbce", {"sampling_rate": 0}),
    ("info_nce", {"temperature": 0}),
    ("one_vs_rest_hinge", {"margin": -1}),
    ("poly", {"epsilon": -2}),
    ("weston_watkins", {"squared": "sometimes"}),
]


@pytest.mark.parametrize(("name", "options"), OUT_OF_RANGE)
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(ConfigError, match=f"option '{list(options)[-1]}"):
        losses.options(name).complete(options)


@ALL
def test_options_of_the_table_pass(case):
    options = {**case.options, **({"norms": torch.ones(1)} if case.name == "adaface" else {})}
    checked = losses.options(case.name).complete(options)
    assert {key: checked[key] for key in options} == options


# Mistakes that the laws find.


def unshifted(logits, labels):
    return -(logits.exp() / logits.exp().sum(1, keepdim=True)).log().gather(1, labels[:, None]).squeeze(1)


def clamped(logits, labels):
    probs = torch.softmax(logits, 1).clamp(min=1e-10)
    return -probs.log().gather(1, labels[:, None]).squeeze(1)


def masked_by_a_large_number(logits, labels):
    return F.cross_entropy(logits.clamp(min=-9.0), labels, reduction="none")


def ignored_by_a_factor(logits, labels):
    return CASES["cross_entropy"](logits, labels.clamp(min=0)) * (labels >= 0)


@pytest.mark.parametrize(
    ("law", "wrong"),
    [
        (check_value, lambda x, y: CASES["cross_entropy"](x, y) / len(x)),
        (check_extremes, unshifted),
        (check_extremes, clamped),
        (check_masking, masked_by_a_large_number),
        (check_ignoring, ignored_by_a_factor),
        (lambda case, loss: check_half_precision(case, loss, torch.float16), TWINS["cross_entropy"]),
    ],
)
def test_a_wrong_loss_is_found(law, wrong):
    case = CASES["cross_entropy"]
    law(case, case)
    with pytest.raises(AssertionError):
        law(case, wrong)
