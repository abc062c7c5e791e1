"""Laws of heads: the loss and what training makes of it. Shapes: B rows, P labels."""

import torch
from torch import Tensor

from widemax.errors import LabelError, ShapeError
from widemax.heads import CountingHead, Head, SeveralLabels
from widemax.testing.head_parts import CLASSES, Factory, build, replayed, some_hidden, some_labels
from widemax.testing.report import NotApplicable, broken, require, require_close

STEPS = 30
LEARNING_RATE = 0.5
GAIN_NATS = 0.5
STEP = 1e-6


def reduction(factory: Factory) -> str:
    loss_of, hidden = replayed(build(factory)), some_hidden()
    weight_B = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.0, 3.0, 0.0])
    loss_B = loss_of(hidden, reduction="none").detach()
    weighted_B = loss_B * weight_B
    cases = (
        ("sum", None, loss_B.sum()),
        ("mean", None, loss_B.mean()),
        ("none", weight_B, weighted_B),
        ("sum", weight_B, weighted_B.sum()),
        ("mean", weight_B, weighted_B.sum() / weight_B.sum()),
    )
    for name, sample_weight, expected in cases:
        found = loss_of(hidden, reduction=name, sample_weight=sample_weight)
        what = f"the loss with reduction={name!r}{'' if sample_weight is None else ' and weights'}"
        require_close(what, found, expected, tolerance=1e-5, cause="a mean over rows instead of weights")
    return "mean, sum and none agree, weighted or not"


def several_labels(factory: Factory) -> str:
    head, hidden = build(factory), some_hidden().requires_grad_()
    several = SeveralLabels(torch.tensor([0, 5, 22, 1]), torch.tensor([0, 2, 2, 3, 4, 4, 4, 4]))
    try:
        loss_B = head(hidden, several, reduction="none")
    except ShapeError as refusal:
        raise NotApplicable(f"it refuses them: {refusal}") from None
    backward(loss_B.sum())
    finite = bool(loss_B.isfinite().all() and (hidden.grad is None or hidden.grad.isfinite().all()))
    found = f"rows with 0, 1 or 2 labels have losses {loss_B.tolist()}."
    require(finite and loss_B.shape == (len(hidden),), found, cause="a mean over no labels")
    return "rows with 0, 1 or 2 labels have finite losses and gradients"


def labels_outside(factory: Factory) -> str:
    head, hidden, labels = build(factory), some_hidden(), some_labels()
    labels[2] = CLASSES
    try:
        head(hidden, labels)
    except LabelError as error:
        named = "row 2" in str(error) and str(CLASSES) in str(error)
        require(named, f"the message {str(error)!r} must name row 2.", cause="rows left out of check_labels")
        return "are refused, and the row is named"
    raise broken(f"label {CLASSES} of {CLASSES} classes must be refused.", cause="check_labels not called")


def gradient(factory: Factory) -> str:
    head = build(factory).double()
    hidden = some_hidden(dtype=torch.float64).requires_grad_()
    loss_of = replayed(head)
    if not head.learns_by_gradients:
        raise NotApplicable("it counts, and no gradient trains it")
    if not torch.equal(loss_of(hidden), head(hidden, some_labels())):
        raise NotApplicable("its loss is drawn at random")
    torch.autograd.gradcheck(lambda hidden: loss_of(hidden, reduction="none"), hidden)
    parameters = list(head.parameters())
    found = torch.autograd.grad(loss_of(hidden), parameters)
    directions = [torch.randn_like(parameter) for parameter in parameters]
    pairs = zip(found, directions, strict=True)
    slope = torch.stack([(grad.to_dense() * direction).sum() for grad, direction in pairs]).sum()
    ends = []
    with torch.no_grad():
        for step in (STEP, -2 * STEP):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=step)
            ends.append(loss_of(hidden))
    expected = (ends[0] - ends[1]) / (2 * STEP)
    cause = "a gradient by hand that forgets a term"
    require_close("the slope of the loss along a direction", slope, expected, tolerance=1e-6, cause=cause)
    return "is that of the value, by finite differences, for hidden vectors and parameters"


def learns(factory: Factory) -> str:
    head, hidden, labels = build(factory), some_hidden(), some_labels()
    labels[3] = labels[2]
    hidden[3] = hidden[2]
    before_B = head.answer(hidden, labels, k=1).label_log_probs
    _train(head, hidden, labels)
    gain = float((head.answer(hidden, labels, k=1).label_log_probs - before_B).mean())
    found = f"{STEPS} steps must make labels more probable by {GAIN_NATS} nats, found {gain:.3g}."
    require(gain > GAIN_NATS, found, cause="the wrong sign, or parameters that get no gradient")
    return f"{STEPS} steps gain {gain:.2f} nats a label"


def _train(head: Head, hidden: Tensor, labels: Tensor) -> None:
    """Steps of SGD, or the rows counted as often."""
    if isinstance(head, CountingHead):
        for _ in range(STEPS):
            head.partial_fit(hidden.clamp(min=0), labels)
        head.finish()
        return
    optimizer = torch.optim.SGD(head.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        head(hidden, labels).backward()
        optimizer.step()


def backward(loss: Tensor) -> None:
    """Gradients of a loss that has any."""
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]


def same_seed(factory: Factory) -> str:
    heads = build(factory), build(factory)
    for head in heads:
        head.seed(3)
    first, second = (head(some_hidden(), some_labels()) for head in heads)
    cause = "randomness from outside head.generator"
    require(torch.equal(first, second), f"one seed gave {first} and {second}.", cause=cause)
    loss_of = replayed(heads[0])
    first, second = loss_of(some_hidden()), loss_of(some_hidden())
    cause = "something learned that training_state() leaves out"
    require(torch.equal(first, second), f"one training state gave {first} and {second}.", cause=cause)
    return "one seed, or one training state, gives one loss"
