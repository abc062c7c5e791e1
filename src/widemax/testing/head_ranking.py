"""Laws of heads: rankings are those of sorting all logits. Shapes: B rows, C classes, K kept, P labels."""

import torch
from torch import Tensor

from widemax.heads import Head, SeveralLabels, TopK
from widemax.testing.head_parts import CLASSES, Factory, build, some_hidden, some_labels
from widemax.testing.report import require, require_close

CLOSE = 1e-5


def _tied(factory: Factory) -> Head:
    """A head without any knowledge, so that many classes are equal."""
    head = build(factory)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    return head


def _by_sorting(logits_BC: Tensor) -> Tensor:
    """[B, C] class ids, best first, equal ones by id."""
    return logits_BC.argsort(descending=True, stable=True)


def _require_topk(found: TopK, logits_BC: Tensor, log_probs_BC: Tensor, k: int) -> None:
    expected_BK = _by_sorting(logits_BC)[:, :k]
    cause = "equal logits not in the order of ids, or a search that ends too early"
    what = f"the ids of the top {k}"
    require_close(what, found.class_ids, expected_BK, tolerance=0.0, cause=cause)
    what = f"the logits of the top {k}"
    expected_logits_BK = logits_BC.gather(1, expected_BK)
    require_close(what, found.logits, expected_logits_BK, tolerance=CLOSE, cause=cause)
    seen_BK = found.logits > -torch.inf
    what = f"the log-probabilities of the top {k}"
    expected_log_probs = log_probs_BC.gather(1, expected_BK)[seen_BK]
    require_close(what, found.log_probs[seen_BK], expected_log_probs, tolerance=CLOSE, cause=cause)


def top_k(factory: Factory) -> str:
    hidden, every_C = some_hidden(), torch.arange(CLASSES)
    for head in (build(factory), _tied(factory)):
        for k in (1, 4, CLASSES, CLASSES + 5):
            logits_BC, log_probs_BC = head.logits(hidden), head.log_probs(hidden, every_C)
            _require_topk(head.topk(hidden, k), logits_BC, log_probs_BC, k)
    return "is that of sorting all logits, equal ones by id; all classes if k exceeds C"


def excluded_classes(factory: Factory) -> str:
    hidden, every_C = some_hidden(), torch.arange(CLASSES)
    rows = [[], [0, 5, 22], [7], [-1, 3], list(range(CLASSES)), list(range(CLASSES - 1)), [-1, -1]]
    exclude = SeveralLabels(
        torch.tensor([class_id for row in rows for class_id in row]),
        torch.tensor([0, *(len(row) for row in rows)]).cumsum(0),
    )
    for head in (build(factory), _tied(factory)):
        logits_BC, log_probs_BC = head.logits(hidden), head.log_probs(hidden, every_C)
        for row, ids in enumerate(rows):
            logits_BC[row, [class_id for class_id in ids if class_id >= 0]] = -torch.inf
        found = head.topk(hidden, 6, exclude=exclude)
        # What is listed once nothing is left has no order.
        used_BK = logits_BC.gather(1, _by_sorting(logits_BC)[:, :6]) > -torch.inf
        cause = "excluded before normalizing, or −1 taken for the last class"
        expected_BK = _by_sorting(logits_BC)[:, :6]
        what = "the ids of the top 6 without the excluded classes"
        require_close(what, found.class_ids[used_BK], expected_BK[used_BK], tolerance=0.0, cause=cause)
        rest = found.logits[~used_BK]
        require(
            bool((rest == -torch.inf).all()),
            f"excluded classes must have logit −inf, found {rest.tolist()}.",
            cause="fewer than k classes left",
        )
        what = "the log-probabilities, taken among all classes"
        expected = log_probs_BC.gather(1, expected_BK)[used_BK]
        require_close(what, found.log_probs[used_BK], expected, tolerance=CLOSE, cause=cause)
    return "are not ranked, and probabilities stay those among all classes"


def ranks(factory: Factory) -> str:
    hidden, labels = some_hidden(), some_labels()
    labels[5] = -1
    known = labels >= 0
    ids_B = labels.clamp(min=0)[:, None]
    exclude = SeveralLabels.of(_by_sorting(build(factory).logits(hidden))[:, 0])
    for head in (build(factory), _tied(factory)):
        for excluded in (None, exclude):
            answers = head.answer(hidden, labels, k=4, exclude=excluded)
            logits_BC = head.logits(hidden)
            if excluded is not None:
                best_B1 = excluded.ids_P[:, None]
                # A label is ranked even if it is excluded.
                logits_BC = logits_BC.scatter(1, best_B1, -torch.inf).scatter(
                    1, ids_B, logits_BC.gather(1, ids_B)
                )
            place_BC = _by_sorting(logits_BC).argsort(1)
            expected_B = torch.where(known, place_BC.gather(1, ids_B).squeeze(1) + 1, 0)
            cause = "equal logits not in the order of ids, or ranks from 0"
            require_close("the ranks of labels", answers.label_ranks, expected_B, tolerance=0.0, cause=cause)
        log_probs_B = head.log_probs(hidden, ids_B).squeeze(1)
        numbers = [
            ("the log-probabilities of labels", answers.label_log_probs, log_probs_B),
            ("the logits of labels", answers.label_logits, head.logits(hidden, ids_B).squeeze(1)),
        ]
        if head.normalizer == "softmax":
            numbers.append(("the log-partition", answers.log_partition, head.log_partition(hidden)))
        for what, found, expected in numbers:
            asked = known if "label" in what else torch.ones_like(known)
            require_close(
                what, found[asked], expected[asked], tolerance=CLOSE, cause="two ways to one number"
            )
        unknown = answers.label_log_probs[~known]
        require(
            bool(unknown.isnan().all()),
            f"label −1 must have log-probability NaN, found {unknown}.",
            cause="−1 taken for the last class",
        )
    return "are places in the sorted list, from 1; 0 for label −1"
