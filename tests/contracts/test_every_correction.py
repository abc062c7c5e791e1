"""Every sampler, with each rule for duplicates, under every correction and for both kinds of question.

Logits are the true ones, so the exact loss has no gradient on average over labels. A correction that knows
what the sampler did has none either; wrong twins, which state other counts, have one that shows.
Shapes: C classes, one row a class.
"""

import itertools
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from widemax.classes import Classes
from widemax.heads import CORRECTIONS, Correction, sampled_sigmoid_loss, sampled_softmax_loss
from widemax.samplers import Query, Sampler, samplers
from widemax.testing.sampled_problem import Kind, Problem

C, NUM_SAMPLED = 40, 24
COUNTS = (1000 * torch.arange(1, C + 1).double().rsqrt()).long()
PROBS = COUNTS.double() / COUNTS.sum()
TRIPLED = torch.where(torch.arange(C) % 2 == 0, 1.0, -1.0).double() * torch.log(torch.tensor(3.0))
"""What a wrong twin adds to its log expected counts: of even classes three times as many, of odd a third."""

LIMIT = 0.4
"""Of the mean gradient's norm, where the labels' own part of it has norm 1."""


def sampler_choices() -> list[Any]:
    choices = []
    for name in samplers:
        field = samplers.options(name).keywords.get("duplicates")
        for rule in [None] if field is None else typing.get_args(field.annotation):
            options = samplers.options(name).complete({} if rule is None else {"duplicates": rule})
            choices.append(pytest.param(name, options, id=f"{name} {rule or ''}".strip()))
    return choices


def true_problem(kind: Kind) -> Problem:
    """One row a class, all with the same hidden vector and the true logits."""
    if kind == "softmax":
        return Problem.of(sampled_softmax_loss, kind, num_classes=C).every_label(PROBS.log())
    return Problem.of(sampled_sigmoid_loss, kind, num_classes=C).every_label(PROBS.logit())


def draws(sampler: Sampler, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
    """Candidates, and the log expected counts of all classes, without end; labels come from the truth."""
    generator = torch.Generator().manual_seed(0)
    query = Query(problem.hidden_BD, lambda ids: (problem.weight_CD[ids], problem.bias_C[ids]))
    while True:
        labels = torch.multinomial(PROBS, NUM_SAMPLED, replacement=True, generator=generator)
        ids_S, log_expected_count = sampler.propose(labels, NUM_SAMPLED, generator=generator, query=query)
        yield ids_S.sort().values, log_expected_count(torch.arange(C))


def size_of_mean(gradients: list[Tensor]) -> float:
    """The norm of the mean gradient, its own noise taken off."""
    gradients_MC = torch.stack(gradients)
    noise = float(gradients_MC.var(0).sum()) / len(gradients)
    squared = float(gradients_MC.mean(0).square().sum()) - noise
    return max(0.0, squared) ** 0.5 / float(PROBS.norm())


def choices_and_kinds() -> Iterator[Any]:
    """Every sampler with each rule and both kinds, at which rules take turns: a sampler knows no kind."""
    for _, group in itertools.groupby(sampler_choices(), lambda choice: choice.values[0]):
        rules = list(group)
        for place, choice in enumerate(rules * 2 if len(rules) == 1 else rules):
            kind = ("softmax", "sigmoid")[place % 2]
            yield pytest.param(*choice.values, kind, id=f"{choice.id}-{kind}")


@pytest.mark.parametrize(("name", "options", "kind"), list(choices_and_kinds()))
def test_only_the_stated_counts_are_right_at_the_truth(
    name: str, options: dict[str, Any], kind: Kind
) -> None:
    problem = true_problem(kind)
    corrections = [correction for correction in CORRECTIONS if correction != "none"]
    right: dict[Correction, list[Tensor]] = {correction: [] for correction in corrections}
    wrong: dict[Correction, list[Tensor]] = {correction: [] for correction in corrections}
    drawn = draws(samplers[name](Classes(C, COUNTS), **options), problem)
    for ids_S, log_count_C in itertools.islice(drawn, 12):
        for found, stated_C in ((right, log_count_C), (wrong, log_count_C + TRIPLED)):
            for correction in corrections:
                found[correction].append(problem.gradients(ids_S, stated_C, correction, PROBS)[1][-C:])
    for correction in corrections:
        assert size_of_mean(right[correction]) < LIMIT < size_of_mean(wrong[correction]), correction
    of_right, of_wrong = (
        problem(ids_S, stated_C, "none") for stated_C in (log_count_C, log_count_C + TRIPLED)
    )
    assert torch.equal(of_right, of_wrong), "without a correction the counts must not matter"


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["frequency", "midx", "in_batch"])
def test_no_correction_is_wrong_for_an_uneven_draw(name: str, kind: Kind) -> None:
    problem = true_problem(kind)
    drawn = draws(samplers[name](Classes(C, COUNTS), duplicates="keep"), problem)
    found = [
        problem.gradients(ids_S, log_count_C, "none", PROBS)[1][-C:]
        for ids_S, log_count_C in itertools.islice(drawn, 30)
    ]
    assert size_of_mean(found) > LIMIT


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(("name", "options"), sampler_choices())
def test_temperature_divides_before_the_correction(
    name: str, options: dict[str, Any], correction: Correction, kind: Kind
) -> None:
    problem = true_problem(kind)
    colder = Problem(
        problem.loss,
        kind,
        problem.hidden_BD * 0.05,
        problem.weight_CD,
        problem.bias_C * 0.05,
        problem.labels_B,
    )
    ids_S, log_count_C = next(draws(samplers[name](Classes(C, COUNTS), **options), problem))
    log_count_C = log_count_C + TRIPLED  # even where the sampler is uniform
    expected_C = problem(ids_S, log_count_C, correction)
    torch.testing.assert_close(
        colder(ids_S, log_count_C, correction, temperature=0.05), expected_C, rtol=1e-9, atol=1e-9
    )
    # The twin divides logits and correction alike, which is to state counts to the power of 1 / 0.05.
    late_C = problem(ids_S, log_count_C / 0.05, correction)
    assert (correction == "none") == torch.allclose(late_C, expected_C)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(("name", "options"), sampler_choices())
def test_a_label_among_the_candidates_changes_nothing(
    name: str, options: dict[str, Any], correction: Correction, kind: Kind
) -> None:
    problem = true_problem(kind)
    ids_S, log_count_C = next(draws(samplers[name](Classes(C, COUNTS), **options), problem))
    loss_C = problem(ids_S, log_count_C, correction)
    for label in ids_S.unique()[:3].tolist():
        one = problem(ids_S[ids_S != label], log_count_C, correction)[label]
        torch.testing.assert_close(loss_C[label], one, rtol=1e-12, atol=1e-12)
