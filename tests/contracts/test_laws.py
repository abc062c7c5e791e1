"""Every registered member obeys the laws of its room; members that other distributions add are tested too."""

import inspect
import typing
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.heads import Correction, Head, heads, sampled_sigmoid_loss, sampled_softmax_loss
from widemax.losses import losses
from widemax.optim import RowOptimizer, optimizers
from widemax.registry import Registry
from widemax.samplers import Query, samplers
from widemax.testing import check_head, check_loss, check_optimizer, check_sampled_loss, check_sampler

C, D, B = 40, 5, 16
NUM_DRAWS = 300


def zipf_counts(num_classes: int) -> Tensor:
    return (5 * num_classes / torch.arange(1, num_classes + 1)).long()


def variants(registry: Registry[Any], option: str) -> list[Any]:
    """Every member with each choice of an option, if it has the option."""
    cases = []
    for name in registry:
        field = registry.options(name).keywords.get(option)
        choices = [None] if field is None else typing.get_args(field.annotation)
        for choice in choices:
            options = registry.options(name).complete({} if choice is None else {option: choice})
            cases.append(pytest.param(name, options, id=f"{name} {choice or ''}".strip()))
    return cases


# Samplers: every one is given all that any may ask for.

COUNTS = zipf_counts(C)


def random_query() -> Query:
    generator = torch.Generator().manual_seed(0)
    hidden_BD = torch.randn(B, D, generator=generator)
    weight_CD, bias_C = torch.randn(C, D, generator=generator), torch.randn(C, generator=generator)
    return Query(hidden_BD, lambda ids: (weight_CD[ids], bias_C[ids]))


@pytest.mark.parametrize(("name", "options"), variants(samplers, "duplicates"))
def test_sampler_draws_what_it_states(name: str, options: dict[str, Any]) -> None:
    sampler = samplers[name](Classes(C, COUNTS), **options)
    report = check_sampler(
        sampler, label_probs=COUNTS / COUNTS.sum(), query=random_query(), num_draws=NUM_DRAWS
    )
    assert ("expected counts" in report.held) == (sampler.approximation is None)


# Losses over sampled classes.

SAMPLED_LOSSES = {"softmax": sampled_softmax_loss, "sigmoid": sampled_sigmoid_loss}


@pytest.mark.parametrize("kind", SAMPLED_LOSSES)
def test_sampled_loss_corrects_as_it_says(kind: Any) -> None:
    corrections = typing.get_args(Correction)
    report = check_sampled_loss(SAMPLED_LOSSES[kind], kind=kind, corrections=corrections)
    assert len(report.held) == 8


# Losses.


def loss_with_needed_options(name: str) -> Any:
    """The loss; if it needs a number a row, as a function that gives it."""
    loss = losses[name]
    needed = [p.name for p in inspect.signature(loss).parameters.values() if is_needed(p)]
    if not needed:
        return loss
    assert needed == ["norms"], f"say here what the option {needed} of {name!r} must be"

    def with_norms(cosines: Tensor, labels: Tensor, *, ignore_index: int = -100) -> Tensor:
        return loss(cosines, labels, norms=torch.full((len(cosines),), 20.0), ignore_index=ignore_index)

    return with_norms


def is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty


@pytest.mark.parametrize("name", losses.names())
def test_loss_obeys_its_laws(name: str) -> None:
    check_loss(loss_with_needed_options(name))


LOSS_OPTIONS = [
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("cross_entropy", {"z_loss": 1e-2}),
    ("cross_entropy", {"softcap": 30.0}),
    ("gbce", {"calibration": 1.0, "sampling_rate": 0.1}),
    ("crammer_singer", {"squared": True}),
    ("weston_watkins", {"squared": True}),
    ("one_vs_rest_hinge", {"squared": True}),
    ("focal", {"gamma": 0.0}),
    ("binary_focal", {"gamma": 0.0, "alpha": 0.25}),
]


@pytest.mark.parametrize(("name", "options"), LOSS_OPTIONS, ids=str)
def test_loss_obeys_its_laws_with_options(name: str, options: dict[str, Any]) -> None:
    check_loss(losses[name], **options)


# Heads.


def new_head(name: str, num_classes: int, dim: int, *, with_counts: bool, **options: Any) -> Head:
    class_counts = zipf_counts(num_classes) if with_counts else None
    return heads[name](Classes(num_classes, class_counts), dim, **heads.options(name).complete(options))


@pytest.mark.parametrize("name", heads.names())
def test_head_answers_exactly_and_learns(name: str) -> None:
    check_head(partial(new_head, name, with_counts=True))


@pytest.mark.parametrize("name", sorted(set(heads.names()) - {"sampled"}))
def test_head_answers_exactly_without_counts(name: str) -> None:
    check_head(partial(new_head, name, with_counts=False))


@pytest.mark.parametrize("name", samplers.names())
def test_sampled_head_learns_with_every_sampler(name: str) -> None:
    check_head(partial(new_head, "sampled", with_counts=True, sampler=name, num_sampled=16))


def takes_logits(loss: Any) -> bool:
    return next(iter(inspect.signature(loss).parameters)) == "logits"


@pytest.mark.parametrize("name", [name for name in losses if takes_logits(losses[name])])
def test_exact_head_learns_with_every_loss(name: str) -> None:
    check_head(partial(new_head, "exact", with_counts=True, loss=name))


# Optimizers.

DECAYED = [name for name in optimizers if "weight_decay" in optimizers.options(name).keywords]


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in optimizers), *((name, {"weight_decay": 0.1}) for name in DECAYED)],
    ids=str,
)
def test_optimizer_obeys_its_laws(name: str, options: dict[str, Any]) -> None:
    def factory(parameters: list[torch.nn.Parameter]) -> RowOptimizer:
        return optimizers[name](parameters, **optimizers.options(name).complete(options))

    check_optimizer(factory)
