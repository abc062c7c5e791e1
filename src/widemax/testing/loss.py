"""The laws of losses. Shapes: B rows, C classes."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from widemax.options import checked
from widemax.testing.loss_numbers import (
    extremes,
    half_precision,
    masked_classes,
    rewards_the_truth,
    saturation,
)
from widemax.testing.loss_subject import LossSubject
from widemax.testing.report import NotApplicable, Report, broken, name_of, require, require_close, run_laws


@checked
def check_loss(loss_fn: Callable[..., Tensor], **options: Any) -> Report:
    """Whether a loss is what a loss here must be: one number a row with the right gradient, at any logits.

    What the loss takes is what it declares with ``@losses.register`` or ``@losses.declare``: class ids [B]
    ("labels"), or any number of right classes a row [B, C] ("targets"). A loss of "cosines" is given numbers
    in [−1, 1].

    Args:
        loss_fn: gives one loss a row from logits and labels.
        **options: passed on at every call; they must fit any number of rows and classes.

    Raises:
        ConformanceError: a law is broken.

    Example:
        >>> from widemax.losses import binary_cross_entropy
        >>> check_loss(binary_cross_entropy).skipped
        {'ignored rows': 'it has no option ignore_index'}
    """
    laws = {
        "one number a row": _one_number_a_row,
        "few classes": _few_classes,
        "empty batch": _empty_batch,
        "gradient": _gradient,
        "second derivatives": _second_derivatives,
        "torch.func": _torch_func,
        "rewards the truth": rewards_the_truth,
        "saturation": saturation,
        "extremes": extremes,
        "masked classes": masked_classes,
        "half precision": half_precision,
        "order of rows": _order_of_rows,
        "order of classes": _order_of_classes,
        "labels outside": _labels_outside,
        "ignored rows": _ignored_rows,
    }
    subject = LossSubject(loss_fn, options)
    return run_laws(name_of(loss_fn), {law: partial(ask, subject) for law, ask in laws.items()})


def _require_losses(loss_B: Tensor, num_rows: int, given: str) -> None:
    require(
        loss_B.shape == (num_rows,) and bool(loss_B.isfinite().all()),
        f"{given} must have {num_rows} finite losses, found {tuple(loss_B.shape)} {loss_B.tolist()}.",
        cause="a reduction inside the loss",
    )


def _one_number_a_row(subject: LossSubject) -> str:
    loss_B = subject(subject.logits(5, 4), subject.truth(5, 4))
    _require_losses(loss_B, 5, "5 rows of 4 classes")
    require(loss_B.dtype == torch.float64, f"float64 must stay, found {loss_B.dtype}.", cause="a cast")
    return "a finite loss a row"


def _few_classes(subject: LossSubject) -> str:
    for num_classes in (1, 2):
        logits_BC, truth = subject.logits(3, num_classes), subject.truth(3, num_classes)
        loss_B, gradient_BC = subject.with_gradient(logits_BC, truth)
        _require_losses(loss_B, 3, f"3 rows, C = {num_classes},")
        require(bool(gradient_BC.isfinite().all()), f"the gradient is {gradient_BC}.", cause="0 · inf")
    return "C = 1 and C = 2"


def _empty_batch(subject: LossSubject) -> str:
    loss_B, gradient_BC = subject.with_gradient(subject.logits(0, 4), subject.truth(0, 4))
    _require_losses(loss_B, 0, "no rows")
    require(gradient_BC.shape == (0, 4), f"the gradient has shape {gradient_BC.shape}.", cause="a reduction")
    return "no rows, no losses"


def _gradient(subject: LossSubject) -> str:
    truth = subject.truth(3, 4)
    torch.autograd.gradcheck(lambda logits: subject(logits, truth), subject.logits(3, 4).requires_grad_())
    return "is that of the value, by finite differences"


def _second_derivatives(subject: LossSubject) -> str:
    truth = subject.truth(2, 3)
    torch.autograd.gradgradcheck(lambda logits: subject(logits, truth), subject.logits(2, 3).requires_grad_())
    return "are those of the gradient, by finite differences"


def _torch_func(subject: LossSubject) -> str:
    logits_BC, truth = subject.logits(3, 4), subject.truth(3, 4)
    gradient_BC = torch.func.grad(lambda logits: subject(logits, truth).sum())(logits_BC)
    require_close(
        "the gradient by torch.func.grad",
        *(gradient_BC, subject.with_gradient(logits_BC, truth)[1]),
        tolerance=1e-12,
        cause="an autograd.Function without setup_context",
    )
    return "torch.func.grad gives the same gradient"


def _order_of_rows(subject: LossSubject) -> str:
    order = torch.tensor([3, 0, 4, 1, 2])
    logits_BC, truth = subject.logits(5, 4), subject.truth(5, 4)
    require_close(
        "the loss of rows in another order",
        *(subject(logits_BC[order], truth[order]), subject(logits_BC, truth)[order]),
        tolerance=1e-12,
        cause="rows mixed by a broadcast",
    )
    return "a row's loss does not depend on its place"


def _order_of_classes(subject: LossSubject) -> str:
    order = torch.tensor([2, 0, 3, 1])
    logits_BC, truth = subject.logits(5, 4), subject.truth(5, 4)
    moved = truth[:, order] if subject.several else order.argsort()[truth]
    require_close(
        "the loss of classes in another order",
        *(subject(logits_BC[:, order], moved), subject(logits_BC, truth)),
        tolerance=1e-12,
        cause="a class id with a meaning of its own, such as 0 for padding",
    )
    return "class ids are but names"


def _labels_outside(subject: LossSubject) -> str:
    logits_BC, truth = subject.logits(3, 4), subject.truth(3, 4)
    if subject.several:
        wrong, words = truth[:, :3], ["4"]
    else:
        wrong, words = truth.index_fill(0, torch.tensor([1]), 99), ["99", "row 1"]
    try:
        subject(logits_BC, wrong)
    except (ValueError, IndexError) as error:
        missing = [word for word in words if word not in str(error)]
        require(
            not missing, f"the message {str(error)!r} must name {missing}.", cause="an error of torch's own"
        )
        return "refused by a message that says what is wrong"
    raise broken("labels that do not fit must be refused, found a loss.", cause="a one-hot row of zeros")


def _ignored_rows(subject: LossSubject) -> str:
    if "ignore_index" not in inspect.signature(subject.loss_fn).parameters:
        raise NotApplicable("it has no option ignore_index")
    logits_BC, labels_B = subject.logits(4, 4), subject.truth(4, 4)
    ignoring = LossSubject(subject.loss_fn, {**subject.options, "ignore_index": -7})
    loss_B, gradient_BC = ignoring.with_gradient(logits_BC, torch.where(torch.arange(4) == 2, -7, labels_B))
    expected_B, expected_BC = ignoring.with_gradient(logits_BC, labels_B)
    cause = "the label of an ignored row used as an index"
    expected_B[2], expected_BC[2] = 0, 0
    require_close("the loss beside an ignored row", loss_B, expected_B, tolerance=1e-12, cause=cause)
    require_close(
        "the gradient beside an ignored row", gradient_BC, expected_BC, tolerance=1e-12, cause=cause
    )
    return "an ignored row has loss 0 and gradient 0"
