"""Laws of losses: what becomes of large, masked and coarse logits. Shapes: B rows, C classes."""

import torch
from torch import Tensor

from widemax.testing.loss_subject import LossSubject
from widemax.testing.report import NotApplicable, require, require_close

LARGE = (1e4, 1e30)
WRONG_LOGITS = (30.0, 100.0)


def _sure(subject: LossSubject, level: float, *, right: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits ±level that are all right or all wrong (cosines: ±0.99), and the truth."""
    truth = subject.truth(4, 5)
    signs_BC = torch.where(subject.is_right(truth, 5) == right, 1.0, -1.0).to(dtype)
    return signs_BC * (0.99 if subject.of_cosines else level), truth


def rewards_the_truth(subject: LossSubject) -> str:
    right_B = subject(*_sure(subject, 20.0, right=True, dtype=torch.float64))
    wrong_B = subject(*_sure(subject, 20.0, right=False, dtype=torch.float64))
    require(
        bool((right_B < wrong_B).all()),
        f"right logits must lose less than wrong ones, found {right_B.tolist()} and {wrong_B.tolist()}.",
        cause="a wrong sign",
    )
    return "right logits lose less than wrong ones"


def saturation(subject: LossSubject) -> str:
    for level in WRONG_LOGITS:
        logits_BC, truth = _sure(subject, level, right=False, dtype=torch.float32)
        _, gradient_BC = subject.with_gradient(logits_BC, truth)
        still = (gradient_BC == 0) | ~gradient_BC.isfinite()
        require(
            not bool(still.any()),
            f"where all logits are wrong by {level:g} each must have a gradient, found "
            f"{gradient_BC[still][:1].tolist()} at (row, class) {still.nonzero()[:1].tolist()}.",
            cause="a probability clamped or raised to a power; −log sigmoid(s)^β is β·softplus(−s)",
        )
    return "wrong answers keep their gradient"


def extremes(subject: LossSubject) -> str:
    for level in LARGE if not subject.of_cosines else (1.0,):
        truth = subject.truth(6, 5)
        logits_BC = level * subject.logits(6, 5).sign().float()
        for dtype in (torch.float32, torch.float64):
            loss_B, gradient_BC = subject.with_gradient(logits_BC.to(dtype), truth)
            # A square may overflow, so that beyond 1e19 a loss may be infinite in float32.
            bad = loss_B.isnan() if level > 1e19 else ~loss_B.isfinite()
            require(
                not bool(bad.any() or gradient_BC.isnan().any()),
                f"logits of ±{level:g} in {dtype} have losses {loss_B.tolist()} and a gradient from "
                f"{float(gradient_BC.min())} to {float(gradient_BC.max())}.",
                cause="exp before the largest logit is taken off, or inf − inf",
            )
    return "no NaN, and no overflow, at the largest logits"


def masked_classes(subject: LossSubject) -> str:
    if subject.of_cosines:
        raise NotApplicable("a cosine cannot be −inf")
    truth = subject.truth(6, 5)
    keep = torch.tensor([0, 1, 3, 4])
    rows = ~subject.is_right(truth, 5)[:, 2]
    logits_BC, truth = subject.logits(6, 5)[rows], truth[rows]
    fewer = truth[:, keep] if subject.several else truth - (truth > 2).long()
    masked_BC = logits_BC.index_fill(1, torch.tensor([2]), -torch.inf)
    loss_B, gradient_BC = subject.with_gradient(masked_BC, truth)
    expected_B, expected_BC = subject.with_gradient(logits_BC[:, keep], fewer)
    cause = "inf − inf, 0 · inf, or a mean over masked classes"
    require_close("the loss with a class at −inf", loss_B, expected_B, tolerance=1e-12, cause=cause)
    what = "the gradient with a class at −inf"
    require_close(what, gradient_BC[:, keep], expected_BC, tolerance=1e-12, cause=cause)
    masked_B = gradient_BC[:, 2]
    require_close("its own gradient", masked_B, torch.zeros_like(masked_B), tolerance=0.0, cause=cause)
    return "a wrong class at −inf is as good as absent"


def half_precision(subject: LossSubject) -> str:
    for dtype in (torch.float16, torch.bfloat16):
        logits_BC = (subject.logits(8, 5) * (1 if subject.of_cosines else 5)).to(dtype)
        truth = subject.truth(8, 5)
        loss_B, gradient_BC = subject.with_gradient(logits_BC, truth.to(dtype) if subject.several else truth)
        exact_B, exact_BC = subject.with_gradient(logits_BC.double(), truth)
        eps = 2 * torch.finfo(dtype).eps
        cause = f"a computation in {dtype} that belongs in float32"
        require_close(f"the loss in {dtype}", loss_B, exact_B, tolerance=eps, cause=cause)
        require_close(f"the gradient in {dtype}", gradient_BC, exact_BC, tolerance=eps, cause=cause)
    return "float16 and bfloat16 cost no more than the rounding of the logits"
