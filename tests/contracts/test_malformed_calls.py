"""Whatever a head is asked with, it answers about its classes, or refuses in one sentence of widemax."""

import copy
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.errors import ArgumentError, LabelError, OptionError, ShapeError, WidemaxError
from widemax.heads import (
    Head,
    LinearHead,
    SeveralLabels,
    TopK,
    exact_sigmoid_loss,
    exact_softmax_loss,
    heads,
    sampled_softmax_loss,
)
from widemax.kernels import Pairs
from widemax.losses import sub_center_cosines
from widemax.samplers import Candidates, Uniform
from widemax.search import ExactIndex

C, D, B, K = 600, 8, 6, 3
HIDDEN = torch.randn(B, D, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([3, 0, 59, 3, 7, 599])
ALL = SeveralLabels(torch.arange(C).repeat(B), torch.arange(B + 1) * C)
TWICE = SeveralLabels(torch.tensor([5, 5, 9]), torch.tensor([0, 3, 3, 3, 3, 3, 3]))


def meta(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def column(tensor: Tensor) -> Tensor:
    return tensor[:, None]


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "none": lambda tensor: None,
    "list": lambda tensor: tensor.tolist(),
    "array": lambda tensor: tensor.numpy(),
    "one axis less": lambda tensor: tensor[0],
    "one axis more": column,
    "shorter": lambda tensor: tensor[..., :2],
    "fewer rows": lambda tensor: tensor[:2],
    "no rows": lambda tensor: tensor[:0],
    "float64": lambda tensor: tensor.double(),
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "int32": lambda tensor: tensor.int(),
    "uint8": lambda tensor: tensor.to(torch.uint8),
    "bool": lambda tensor: tensor > 0,
    "complex": lambda tensor: tensor + 0j,
    "meta": meta,
    "nan": lambda tensor: tensor * torch.nan,
    "inf": lambda tensor: tensor * torch.inf,
    "below": lambda tensor: -1 - tensor.abs(),
    "beyond": lambda tensor: C + tensor,
    "mask": lambda tensor: torch.ones(C, dtype=torch.bool),
    "word": lambda tensor: "ten",
}


@pytest.fixture(params=heads.names())
def head(request: pytest.FixtureRequest) -> Head:
    torch.manual_seed(0)
    return heads[str(request.param)](Classes(C, torch.ones(C)), D)


def calls(head: Head, change: Callable[[Tensor], Any]) -> list[Callable[[], Any]]:
    """Everything that a head can be asked, each with one argument changed."""
    hidden, labels, weight = change(HIDDEN), change(LABELS), change(torch.ones(B))
    asked: list[Callable[[], Any]] = [
        lambda: head(hidden, LABELS),
        lambda: head.logits(hidden),
        lambda: head.logits(hidden, LABELS),
        lambda: head.log_partition(hidden),
        lambda: head.log_probs(hidden, LABELS),
        lambda: head.topk(hidden, K),
        lambda: head.topk(hidden, C),
        lambda: head.answer(hidden, LABELS, k=K),
        lambda: head(HIDDEN, labels),
        lambda: head.answer(HIDDEN, labels, k=K),
        lambda: head.topk(HIDDEN, K, exclude=labels),
        lambda: head.logits(HIDDEN, labels),
        lambda: head.log_probs(HIDDEN, labels),
        lambda: head(HIDDEN, SeveralLabels(labels, torch.arange(B + 1))),
        lambda: head.topk(HIDDEN, K, exclude=SeveralLabels(labels, torch.arange(B + 1))),
        lambda: head(HIDDEN, SeveralLabels(LABELS, change(torch.arange(B + 1)))),
        lambda: head(HIDDEN, LABELS, sample_weight=weight),
        lambda: head(HIDDEN, LABELS, sample_weight=weight, reduction="none"),
        lambda: head.topk(HIDDEN, labels),
    ]
    if isinstance(head, LinearHead):
        counts, rows = change(torch.ones(C + 2)), change(torch.ones(2, D))
        asked += [
            lambda: copy.deepcopy(head).remove(labels, class_counts=torch.ones(C - 5)),
            lambda: copy.deepcopy(head).extend(2, init=rows, class_counts=torch.ones(C + 2)),
            lambda: copy.deepcopy(head).extend(2, class_counts=counts),
        ]
    return asked


@pytest.mark.parametrize("change", CHANGES)
def test_a_malformed_argument_is_refused_or_answered(head: Head, change: str) -> None:
    for call in calls(head, CHANGES[change]):
        try:
            found = call()
        except WidemaxError:
            continue
        if isinstance(found, TopK):
            assert ((found.class_ids >= 0) & (found.class_ids < C)).all()
        elif isinstance(found, Tensor) and change not in ("nan", "inf"):
            assert found.is_meta or found.isfinite().all()


def test_what_was_wrong_is_named(head: Head) -> None:
    ask: Any = head
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (
            ShapeError,
            r"hidden must be \[B, 8\], rows as long .*; got shape \(6, 3\)\.",
            lambda: ask.topk(HIDDEN[:, :3], K),
        ),
        (
            ArgumentError,
            r"hidden must have the dtype of .*, torch.float32; got torch.float64",
            lambda: ask(HIDDEN.double(), LABELS),
        ),
        (
            ArgumentError,
            "hidden must have the device of the head, cpu; got meta",
            lambda: ask.logits(meta(HIDDEN)),
        ),
        (
            ArgumentError,
            "sample_weight must have the device of the head, cpu; got meta",
            lambda: ask(HIDDEN, LABELS, sample_weight=meta(torch.ones(B))),
        ),
        (
            OptionError,
            "head has no option 'reducton'; did you mean 'reduction'?",
            lambda: ask(HIDDEN, LABELS, reducton="sum"),
        ),
        (OptionError, "head.topk has no option 'kk'; did you mean 'k'?", lambda: ask.topk(HIDDEN, kk=3)),
        (
            OptionError,
            "option 'reduction' of head must be 'mean' or 'sum' or 'none'; got 'average'",
            lambda: ask(HIDDEN, LABELS, reduction="average"),
        ),
        (
            OptionError,
            "option 'labels' of head must be a Tensor or a SeveralLabels; got ",
            lambda: ask(HIDDEN, LABELS.tolist()),
        ),
        (
            OptionError,
            "option 'sample_weight' of head must be a Tensor or None; got ",
            lambda: ask(HIDDEN, LABELS, sample_weight=np.ones(B)),
        ),
        (
            OptionError,
            "sample_weight must be finite numbers of at least 0; got -1.0 at place 0",
            lambda: ask(HIDDEN, LABELS, sample_weight=-torch.ones(B)),
        ),
        (
            LabelError,
            r"class_ids must lie in \[0, 600\); got -1",
            lambda: ask.log_probs(HIDDEN, torch.tensor([-1])),
        ),
        (
            LabelError,
            r"labels must lie in \[0, 600\); got 600 at row 0.* or leave such rows out",
            lambda: ask.answer(HIDDEN, LABELS * 0 + C, k=K),
        ),
        (
            ArgumentError,
            "class_ids must be a vector of ids, or one for each of 6 rows; got torch.bool",
            lambda: ask.logits(HIDDEN, torch.ones(C) > 0),
        ),
        (
            ShapeError,
            r"exclude must be \[B\] class ids or SeveralLabels for the 6 rows",
            lambda: ask.topk(HIDDEN, K, exclude=TWICE.take(torch.arange(2))),
        ),
        (
            ShapeError,
            "offsets_B1 must ascend from 0 to the number of ids, 3; got 1 to 3",
            lambda: SeveralLabels(LABELS[:3], torch.tensor([1, 3])),
        ),
    ]
    for kind, says, call in cases:
        with pytest.raises(kind, match=says.replace("?", r"\?")):
            call()


def test_exclusions_of_all_classes_or_twice_of_one(head: Head) -> None:
    assert torch.equal(head.topk(HIDDEN, K, exclude=ALL).class_ids, torch.arange(K).expand(B, K))
    once = SeveralLabels(torch.tensor([5, 9]), torch.tensor([0, 2, 2, 2, 2, 2, 2]))
    assert torch.equal(
        head.topk(HIDDEN, C, exclude=TWICE).class_ids, head.topk(HIDDEN, C, exclude=once).class_ids
    )


def test_changes_of_classes_name_their_arguments() -> None:
    head = heads["exact"](C, D)
    assert isinstance(head, LinearHead)
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (
            OptionError,
            r"option 'class_ids' of head.remove must be a Tensor; got \[1, 2\]",
            lambda: head.remove([1, 2]),
        ),
        (
            LabelError,
            r"class_ids must lie in \[0, 600\); got 1000\. Drop such",
            lambda: head.remove(torch.tensor([1000])),
        ),
        (
            OptionError,
            "option 'init' of head.extend must be .* or a Tensor; got ",
            lambda: head.extend(1, init=np.ones((1, D))),
        ),
        (
            ArgumentError,
            "init must have the device of the head, cpu; got meta",
            lambda: head.extend(1, init=meta(torch.ones(1, D))),
        ),
        (ShapeError, "one count for each of 601 classes", lambda: head.extend(1, class_counts=torch.ones(C))),
    ]
    for kind, says, call in cases:
        with pytest.raises(kind, match=says):
            call()
    assert head.num_classes == C


def functions(change: Callable[[Tensor], Any]) -> list[Callable[[], Any]]:
    """Losses over the weights of one's own, draws and searches, each with one argument changed."""
    weight = torch.randn(C, D, generator=torch.Generator().manual_seed(2))
    every = Candidates(torch.arange(C), torch.zeros(C), torch.zeros(B))
    hidden, classes, labels = change(HIDDEN), change(weight), change(LABELS)
    index, generator = ExactIndex(weight), torch.Generator().manual_seed(0)
    return [
        *(
            call
            for loss in (exact_softmax_loss, exact_sigmoid_loss)
            for call in (
                partial(loss, hidden, weight, LABELS),
                partial(loss, HIDDEN, classes, LABELS),
                partial(loss, HIDDEN, weight, labels),
                partial(loss, HIDDEN, weight, LABELS, bias=change(torch.zeros(C))),
            )
        ),
        lambda: sampled_softmax_loss(hidden, weight, LABELS, every),
        lambda: sampled_softmax_loss(HIDDEN, classes, LABELS, every),
        lambda: sub_center_cosines(hidden, weight[:, None]),
        lambda: Uniform(C).draw(labels, 4, generator=generator),
        lambda: index.topk(HIDDEN, K, only=labels),
        lambda: index.topk(HIDDEN, K, exclude=Pairs(torch.arange(B), labels)),
        lambda: Candidates(labels, torch.zeros(B), torch.zeros(B)),
    ]


@pytest.mark.parametrize("change", sorted(set(CHANGES) - {"nan", "inf"}))
def test_functions_refuse_malformed_arguments_or_answer(change: str) -> None:
    for call in functions(CHANGES[change]):
        with suppress(WidemaxError):
            call()
