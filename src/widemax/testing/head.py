"""The laws of heads. Shapes: B rows, D hidden, C classes, K kept."""

from functools import partial

import torch

from widemax.heads import Head
from widemax.numerics import log_sigmoid, logsumexp
from widemax.options import checked
from widemax.testing.head_parts import CLASSES, Factory, build, replayed, some_hidden
from widemax.testing.head_ranking import excluded_classes, ranks, top_k
from widemax.testing.head_training import (
    backward,
    gradient,
    labels_outside,
    learns,
    reduction,
    same_seed,
    several_labels,
)
from widemax.testing.report import Report, require, require_close, run_laws

CLOSE = 1e-5


@checked
def check_head(factory: Factory) -> Report:
    """Whether a head answers exactly, whatever its training, and whether training teaches it.

    Args:
        factory: num_classes, dim → a new head; it is asked for 1, 2 and 23 classes.

    Raises:
        ConformanceError: a law is broken.

    Example:
        >>> from widemax.heads import ExactHead
        >>> check_head(ExactHead).skipped
        {}
    """
    laws = {
        "probabilities": probabilities,
        "logits by id": logits_by_id,
        "top k": top_k,
        "excluded classes": excluded_classes,
        "ranks": ranks,
        "rows apart": rows_apart,
        "calibration temperature": calibration_temperature,
        "few classes": few_classes,
        "empty batch": empty_batch,
        "reduction": reduction,
        "several labels": several_labels,
        "labels outside": labels_outside,
        "gradient": gradient,
        "learns": learns,
        "same seed": same_seed,
        "saved and loaded": saved_and_loaded,
    }
    name = type(build(factory)).__name__
    return run_laws(name, {law: partial(ask, factory) for law, ask in laws.items()})


def _require_probabilities(head: Head, num_classes: int) -> None:
    hidden, every_C = some_hidden(), torch.arange(num_classes)
    logits_BC, log_probs_BC = head.logits(hidden), head.log_probs(hidden, every_C)
    log_partition_B = head.log_partition(hidden)
    cause = "a calibration temperature that divides one of them only"
    expected_B = logsumexp(logits_BC.double())
    require_close("log Σ exp(logit)", log_partition_B, expected_B, tolerance=CLOSE, cause=cause)
    if head.normalizer == "sigmoid":
        what = "log sigmoid(logit)"
        require_close(what, log_probs_BC, log_sigmoid(logits_BC), tolerance=CLOSE, cause=cause)
    else:
        total_B = log_probs_BC.double().exp().sum(1)
        what = "the sum of all probabilities"
        require_close(what, total_B, torch.ones_like(total_B), tolerance=CLOSE, cause=cause)
        what = "logit − log-partition"
        expected_BC = logits_BC - log_partition_B[:, None]
        require_close(what, log_probs_BC, expected_BC, tolerance=CLOSE, cause=cause)


def probabilities(factory: Factory) -> str:
    head = build(factory)
    _require_probabilities(head, CLASSES)
    return "sigmoids of the logits" if head.normalizer == "sigmoid" else "sum to 1 over all classes"


def logits_by_id(factory: Factory) -> str:
    head, hidden = build(factory), some_hidden()
    ids_N = torch.tensor([22, 0, 5, 5])
    ids_BN = (torch.arange(len(hidden))[:, None] + ids_N) % CLASSES
    for ask in (head.logits, head.log_probs):
        all_BC = ask(hidden, torch.arange(CLASSES))
        for asked, expected in ((ids_N, all_BC[:, ids_N]), (ids_BN, all_BC.gather(1, ids_BN))):
            what = f"{ask.__name__} of class_ids {list(asked.shape)}"
            require_close(what, ask(hidden, asked), expected, tolerance=CLOSE, cause="rows and ids swapped")
    return "those of [N] and of [B, N] class ids are those of all classes"


def rows_apart(factory: Factory) -> str:
    head, hidden, every_C = build(factory), some_hidden(), torch.arange(CLASSES)
    apart = torch.cat([head.log_probs(row, every_C) for row in torch.split(hidden, 1)])
    together = head.log_probs(hidden, every_C)
    cause = "statistics of the batch in an answer"
    require_close("what one row is answered", apart, together, tolerance=CLOSE, cause=cause)
    return "an answer does not depend on the other rows"


def calibration_temperature(factory: Factory) -> str:
    head, hidden = build(factory), some_hidden()
    loss_of = replayed(head)
    loss, plain = loss_of(hidden), head.logits(hidden)
    best = head.topk(hidden, 1).log_probs
    is_normalized = not bool(head.log_partition(hidden).any())
    head.calibration_temperature.fill_(4.0)
    what = "the loss at calibration temperature 4"
    cause = "the calibration temperature read in forward(), or a loss that does not follow its state"
    require_close(what, loss_of(hidden), loss, tolerance=0.0, cause=cause)
    _require_probabilities(head, CLASSES)
    cause = "the calibration temperature forgotten in an answer"
    if not is_normalized:  # Otherwise the temperature divides the logits of each softmax inside.
        what = "the logits at calibration temperature 4"
        require_close(what, head.logits(hidden), plain / 4, tolerance=CLOSE, cause=cause)
    flatter = head.topk(hidden, 1).log_probs
    found = f"the best classes have log-probabilities {flatter.flatten().tolist()} at temperature 4."
    require(not torch.equal(flatter, best), found, cause=cause)
    if head.normalizer == "softmax":
        require(
            float(flatter.mean()) < float(best.mean()), found, cause="logits multiplied by the temperature"
        )
    return "divides the logits of answers, not those of the loss"


def few_classes(factory: Factory) -> str:
    for num_classes in (1, 2):
        head, hidden = build(factory, num_classes), some_hidden()
        loss = head(hidden, torch.arange(len(hidden)) % num_classes)
        backward(loss)
        require(bool(loss.isfinite()), f"C = {num_classes}: the loss is {loss}.", cause="log 0")
        _require_probabilities(head, num_classes)
        shape = head.topk(hidden, 5).class_ids.shape
        found = f"C = {num_classes}: the top 5 have shape {tuple(shape)}."
        require(shape == (len(hidden), num_classes), found, cause="k larger than C")
    return "C = 1 and C = 2"


def empty_batch(factory: Factory) -> str:
    head, hidden = build(factory), some_hidden(0)
    labels = torch.empty(0, dtype=torch.int64)
    loss = head(hidden.requires_grad_(), labels)
    backward(loss)
    require(loss.item() == 0, f"the mean loss must be 0, found {loss}.", cause="0 / 0")
    answers = head.answer(hidden.detach(), labels, k=3)
    shapes = [tuple(x.shape) for x in (answers.topk.class_ids, answers.log_partition, answers.label_ranks)]
    require(shapes == [(0, 3), (0,), (0,)], f"the answers have shapes {shapes}.", cause="a squeeze()")
    shape = tuple(head.log_probs(hidden.detach(), torch.arange(CLASSES)).shape)
    require(
        shape == (0, CLASSES), f"the log-probabilities have shape {shape}.", cause="torch.cat of no parts"
    )
    return "no rows, loss 0, no answers"


def saved_and_loaded(factory: Factory) -> str:
    head, other = build(factory), build(factory, seed=1)
    head.calibration_temperature.fill_(1.5)
    other.load_state_dict(head.state_dict())
    same = torch.equal(head.logits(some_hidden()), other.logits(some_hidden()))
    require(
        same, "a loaded head must answer as the saved one, found other logits.", cause="no register_buffer"
    )
    return "state_dict holds all that answers depend on"
