"""Samplers side by side: expected counts add, whichever part drew a class."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.classes import Classes
from widemax.errors import ConfigError, UnknownNameError, UsageError
from widemax.samplers import Proposal, Query, Sampler, Uniform, build_sampler
from widemax.samplers.hard_negatives import HardNegatives
from widemax.samplers.mixture import Mixture

C, N = 40, 12
COUNTS = (5 * C / torch.arange(1, C + 1)).long()
OWN = 3


def draw_labels(generator):
    """Row 0 has one label throughout; the others are shuffled rows."""
    others = torch.multinomial(COUNTS.double(), 5, replacement=True, generator=generator)
    return torch.cat([torch.tensor([OWN]), others])


class Declared:
    """What a mixture states of its candidates, and what each part does."""

    def __init__(self, mixture, generator):
        labels = draw_labels(generator)
        counts = mixture.split(N)
        self.proposals = [
            part.propose(labels, count, generator=generator)
            for part, count in zip(mixture.parts, counts, strict=True)
        ]
        self.class_ids = torch.cat([proposal.ids_S for proposal in self.proposals])
        self.log_counts_MS = torch.stack([part.log_expected_count(self.class_ids) for part in self.proposals])
        self.drawn_by_S = torch.cat(
            [torch.full_like(part.ids_S, place) for place, part in enumerate(self.proposals)]
        )


def z_scores(ids_and_counts):
    """Mean of count / expected count minus 1, of each class but the row's own, in standard errors."""
    ratios_RC = torch.stack(
        [
            torch.zeros(C, dtype=torch.float64).index_add_(0, ids_S, (-log_count_S).exp())
            for ids_S, log_count_S in ids_and_counts
        ]
    )
    scores_C = (ratios_RC.mean(0) - 1) / (ratios_RC.std(0) / math.sqrt(len(ratios_RC)))
    return np.delete(scores_C.abs().numpy(), OWN)


def draws(mixture, num_draws=500):
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_draws):
        if mixture.state():
            # What the parts remember is whole batches, not the one whose first label is given.
            labels = torch.multinomial(COUNTS.double(), N, replacement=True, generator=generator)
            mixture.draw(labels, N, generator=generator)
        candidates = mixture.draw(draw_labels(generator), N, generator=generator)
        yield candidates.class_ids, candidates.log_expected_count


PARTS = [
    ("frequency", "uniform"),
    ({"kind": "frequency", "duplicates": "keep"}, {"kind": "uniform", "duplicates": "redraw"}),
    ({"kind": "frequency", "duplicates": "redraw"}, {"kind": "log_uniform", "duplicates": "redraw"}),
    ("in_batch", "uniform"),
    ({"kind": "in_batch", "duplicates": "keep"}, {"kind": "mixture"}),
    ("cross_batch_queue", "uniform"),
    ("in_batch", {"kind": "learned_frequency", "window": 30}),
]
SHARED_HISTORY = ("cross_batch_queue", {"kind": "learned_frequency", "window": 30})


@pytest.mark.parametrize("parts", PARTS, ids=range(len(PARTS)))
def test_counts_are_as_declared(parts):
    assert z_scores(draws(Mixture(Classes(C, COUNTS), parts=parts, shares=(2, 1)))).max() < 5


@pytest.mark.parametrize("parts", [PARTS[0], PARTS[3]], ids=["frequency", "in_batch"])
def test_counts_that_do_not_add_are_caught(parts):
    """The wrong twins: the largest count instead of the sum, and that of the drawing part alone."""
    mixture = Mixture(Classes(C, COUNTS), parts=parts)
    generator = torch.Generator().manual_seed(2)
    declared = [Declared(mixture, generator) for _ in range(1000)]
    right = z_scores((one.class_ids, one.log_counts_MS.logsumexp(0)) for one in declared)
    largest = z_scores((one.class_ids, one.log_counts_MS.amax(0)) for one in declared)
    alone = z_scores(
        (one.class_ids, one.log_counts_MS.gather(0, one.drawn_by_S[None])[0]) for one in declared
    )
    assert right.max() < 5
    assert largest.max() > 10
    assert np.median(alone) > 5


def test_parts_that_share_their_history_are_no_longer_exact_and_say_so():
    """What the queue holds is what the learned frequencies have seen, so the two are not independent."""
    mixture = Mixture(Classes(C, COUNTS), parts=SHARED_HISTORY)
    assert z_scores(draws(mixture)).max() > 8
    assert "cross_batch_queue" in mixture.approximation
    nested = Mixture(
        Classes(C, COUNTS), parts=("cross_batch_queue", {"kind": "mixture", "parts": SHARED_HISTORY[1:]})
    )
    assert nested.approximation == mixture.approximation


@pytest.mark.parametrize("parts", PARTS, ids=range(len(PARTS)))
def test_the_partition_is_estimated_without_bias(parts):
    mixture = Mixture(Classes(C, COUNTS), parts=parts)
    logits = torch.randn(C, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = []
    for ids_S, log_count_S in draws(mixture):
        others = ids_S != OWN
        values.append((logits[OWN].exp() + (logits[ids_S] - log_count_S)[others].exp().sum()).item())
    error = np.mean(values) - logits.exp().sum().item()
    assert abs(error) < 4 * np.std(values) / math.sqrt(len(values))


def test_a_class_of_two_parts_stands_twice():
    parts = ({"kind": "uniform", "duplicates": "redraw"},) * 2
    candidates = Mixture(3, parts=parts).draw(torch.tensor([0]), 6, generator=torch.Generator())
    assert candidates.class_ids.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(candidates.log_expected_count, math.log(2), rtol=1e-15)
    np.testing.assert_allclose(candidates.label_log_expected_count, math.log(2), rtol=1e-15)


@given(st.integers(1, 10_000), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_the_split_is_complete_and_off_by_less_than_one(num_sampled, shares):
    counts = Mixture(5, parts=("uniform",) * len(shares), shares=tuple(shares)).split(num_sampled)
    assert sum(counts) == num_sampled
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - num_sampled * share / sum(shares)) < 1 + 1e-9


def test_what_is_left_over_goes_to_the_largest_remainders():
    mixture = Mixture(5, parts=("uniform",) * 3, shares=(5, 3, 2))
    assert [mixture.split(count) for count in (1, 2, 4, 7, 10)] == [
        [1, 0, 0],
        [1, 1, 0],
        [2, 1, 1],
        [4, 2, 1],
        [5, 3, 2],
    ]
    assert Mixture(5, parts=("uniform",) * 3).split(11) == [4, 4, 3]


class Never(Sampler):
    """Draws class 1 for certain and no other."""

    approximation = "it is a test"
    uses_labels = True

    def propose(self, labels, num_sampled, *, generator, query=None):
        def log_expected_count(ids):
            return torch.where(ids == 1, 0.0, -torch.inf).double()

        self.query = query
        return Proposal(torch.tensor([1]), log_expected_count)


def with_parts(*parts):
    mixture = Mixture(4, parts=("uniform",) * len(parts))
    mixture.parts = list(parts)
    return mixture


def test_classes_that_a_part_never_draws():
    labels = torch.tensor([0, 1])
    both = with_parts(Never(4), Uniform(4, duplicates="keep"))
    candidates = both.draw(labels, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(candidates.label_log_expected_count.exp(), [0.5, 1.5], rtol=1e-15)
    nobody = with_parts(Never(4), Never(4)).draw(labels, 4, generator=torch.Generator())
    assert nobody.label_log_expected_count.tolist() == [-math.inf, math.log(2)]


def test_parts_see_the_query():
    part = Never(4)
    query = Query(torch.ones(1, 2), lambda ids: (torch.ones(len(ids), 2), torch.zeros(len(ids))))
    with_parts(part).draw(torch.tensor([0]), 2, generator=torch.Generator(), query=query)
    assert part.query is query


@pytest.mark.parametrize("part", [Uniform, Uniform(4), {"kind": Uniform, "duplicates": "keep"}])
def test_a_part_may_be_a_class_or_an_object(part):
    mixture = Mixture(4, parts=(part, "log_uniform"))
    assert isinstance(mixture.parts[0], Uniform)
    assert isinstance(HardNegatives(4, of=part).pool, Uniform)


@pytest.mark.parametrize("part", [3, int, {"kind": 3}, "unifrm"])
def test_a_part_that_is_no_sampler_is_refused(part):
    with pytest.raises(UsageError):
        Mixture(4, parts=(part, "uniform"))
    with pytest.raises(UsageError):
        HardNegatives(4, of=part)


def test_parts_without_draws_are_left_out():
    generator = torch.Generator().manual_seed(3)
    without = Mixture(Classes(C, COUNTS), parts=("in_batch", "uniform"), shares=(0, 1))
    assert len(without.parts) == 1
    assert not without.uses_labels
    candidates = without.draw(torch.tensor([1]), N, generator=generator)
    plain = Uniform(C).draw(torch.tensor([1]), N, generator=generator)
    np.testing.assert_allclose(
        candidates.label_log_expected_count, plain.label_log_expected_count, rtol=1e-15
    )
    # One draw only: it goes to the first part, and only the first part is expected.
    single = Mixture(Classes(C, COUNTS), parts=("uniform", "frequency")).draw(
        torch.tensor([1]), 1, generator=generator
    )
    np.testing.assert_allclose(single.log_expected_count.exp(), 1 / C, rtol=1e-15)


def test_traits_of_parts_are_traits_of_the_mixture():
    exact = Mixture(Classes(C, COUNTS))
    assert (exact.approximation, exact.uses_labels) == (None, False)
    learned = Mixture(C, parts=("in_batch", "uniform", {"kind": "in_batch", "duplicates": "keep"}))
    assert learned.uses_labels
    assert learned.approximation == learned.parts[0].approximation
    assert not Mixture.uses_labels


@pytest.mark.parametrize("num_classes", [1, 2, 40])
def test_draws_are_sorted_and_repeatable(num_classes):
    labels = torch.arange(9) % num_classes

    def draw():
        mixture = Mixture(
            Classes(num_classes, torch.ones(num_classes)), parts=("in_batch", *SHARED_HISTORY, *PARTS[2])
        )
        return mixture.draw(labels, 20, generator=torch.Generator().manual_seed(4))

    first, second = draw(), draw()
    assert torch.equal(first.class_ids, second.class_ids)
    assert torch.equal(first.log_expected_count, second.log_expected_count)
    assert (first.class_ids.diff() >= 0).all()
    assert first.class_ids.dtype == torch.int64
    assert first.log_expected_count.dtype == torch.float64
    assert first.label_log_expected_count.isfinite().all()


def test_a_state_is_the_states_of_the_parts():
    parts = ("uniform", "cross_batch_queue", {"kind": "mixture", "parts": ["learned_frequency", "in_batch"]})
    first, second, fresh = (Mixture(Classes(C, COUNTS), parts=parts) for _ in range(3))
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        first.draw(draw_labels(generator), N, generator=generator)
    assert set(first.state()) == {"1.queue", "2.0.labels"}
    second.load_state(first.state())
    labels = draw_labels(generator)
    straight, resumed, other = (
        sampler.draw(labels, N, generator=torch.Generator().manual_seed(6))
        for sampler in (first, second, fresh)
    )
    assert torch.equal(straight.class_ids, resumed.class_ids)
    assert torch.equal(straight.log_expected_count, resumed.log_expected_count)
    assert not torch.equal(straight.class_ids, other.class_ids)


def test_the_config_knows_the_member():
    spec = {
        "kind": "mixture",
        "parts": ["in_batch", {"kind": "uniform", "duplicates": "keep"}],
        "shares": [1, 3],
    }
    mixture = build_sampler(spec, Classes(C, COUNTS))
    assert mixture.parts[1].duplicates == "keep"
    assert mixture.shares == [0.25, 0.75]
    with pytest.raises(ConfigError, match="shares"):
        build_sampler({"kind": "mixture", "shares": [1, -1]}, Classes(C, COUNTS))
    with pytest.raises(UnknownNameError, match="frequency"):
        build_sampler({"kind": "mixture", "parts": ["frequenzy"]}, Classes(C, COUNTS))


@pytest.mark.parametrize("shares", [(1,), (1, 2, 3), (0, 0), (2, -1), (math.nan, 1), (math.inf, 1)])
def test_shares_that_split_nothing_are_refused(shares):
    with pytest.raises(ConfigError, match=r"for each of 2 parts|option 'shares' of sampler 'mixture'"):
        Mixture(Classes(C, COUNTS), shares=shares)


def test_a_mixture_needs_a_part():
    with pytest.raises(ConfigError, match="0 parts"):
        Mixture(Classes(C, COUNTS), parts=())
