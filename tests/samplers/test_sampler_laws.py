"""Samplers of independent draws state what they draw, whatever becomes of duplicates."""

import math

import numpy as np
import pytest
import torch

from widemax.classes import Classes
from widemax.errors import UsageError
from widemax.samplers import Candidates, Frequency, LogUniform, Proposal, Uniform
from widemax.samplers.replacement import log_at_least_once
from widemax.testing import ConformanceError, check_sampler

MEMBERS = {"uniform": Uniform, "log_uniform": LogUniform, "frequency": Frequency}
DUPLICATES = ("drop", "keep", "redraw")


def zipf_counts(num_classes):
    counts = (10 * num_classes / torch.arange(1, num_classes + 1)).long()
    counts[::7] = 0
    return counts


def build(name, num_classes, duplicates="drop"):
    return MEMBERS[name](Classes(num_classes, zipf_counts(num_classes)), duplicates=duplicates)


def draw(sampler, labels, num_sampled, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return sampler.draw(torch.as_tensor(labels), num_sampled, generator=generator)


@pytest.mark.parametrize("num_classes", [1, 2, 10, 3000])
@pytest.mark.parametrize("duplicates", DUPLICATES)
@pytest.mark.parametrize("name", MEMBERS)
def test_counts_are_as_declared(name, duplicates, num_classes):
    num_sampled = 5 if num_classes <= 10 else 200
    report = check_sampler(build(name, num_classes, duplicates), num_sampled=num_sampled, num_draws=400)
    assert list(report.skipped) == ["last classes"]


@pytest.mark.slow
@pytest.mark.parametrize("duplicates", DUPLICATES)
@pytest.mark.parametrize("name", MEMBERS)
def test_counts_are_as_declared_among_ten_million(name, duplicates):
    report = check_sampler(build(name, 10_000_000, duplicates), num_sampled=2000, num_draws=400)
    assert report.skipped == {}


@pytest.mark.parametrize("name", MEMBERS)
def test_expected_counts_of_kept_and_of_dropped_duplicates(name):
    ids = torch.arange(50)
    probs = build(name, 50).probs(ids).numpy()
    kept = draw(build(name, 50, "keep"), ids, 30)
    np.testing.assert_allclose(kept.label_log_expected_count.exp(), 30 * probs, rtol=1e-12)
    dropped = draw(build(name, 50, "drop"), ids, 30)
    np.testing.assert_allclose(dropped.label_log_expected_count.exp(), 1 - (1 - probs) ** 30, rtol=1e-12)
    assert len(kept.class_ids) == 30
    assert torch.equal(kept.class_ids.unique(), dropped.class_ids)
    for candidates in (kept, dropped):
        of_labels = candidates.label_log_expected_count[candidates.class_ids]
        assert torch.equal(candidates.log_expected_count, of_labels)


@pytest.mark.parametrize("num_classes", [50, 5000])
@pytest.mark.parametrize("name", MEMBERS)
def test_redrawn_candidates_are_distinct_and_as_many_as_asked_for(name, num_classes):
    sampler = build(name, num_classes, "redraw")
    for num_sampled in (1, 30):
        candidates = draw(sampler, torch.arange(num_classes), num_sampled)
        assert len(candidates.class_ids.unique()) == num_sampled
        # 1 − exp(−q·τ) with one τ for the classes drawn, and an earlier one for those that were not.
        rates = -torch.log1p(-candidates.label_log_expected_count.exp())
        limits = (rates / sampler.probs(torch.arange(num_classes))).numpy()
        is_drawn = np.isin(np.arange(num_classes), candidates.class_ids)
        assert np.ptp(limits[is_drawn]) < 1e-6 * limits.max()
        assert np.ptp(limits[~is_drawn]) < 1e-6 * limits.max()
        assert limits[~is_drawn].max() < limits[is_drawn].min()


@pytest.mark.parametrize("name", MEMBERS)
def test_redrawing_more_than_there_are_classes_gives_them_all(name):
    candidates = draw(build(name, 7, "redraw"), [2, 5], 7)
    assert candidates.class_ids.tolist() == list(range(7))
    assert not candidates.log_expected_count.any()
    assert not candidates.label_log_expected_count.any()


class LimitOfTheLastDrawn(Frequency):
    """Redraws, with the arrival of the last class drawn as the limit for all, that class itself included."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        probs_C = self.probs(torch.arange(self.num_classes))
        times_C = torch.empty_like(probs_C).exponential_(generator=generator) / probs_C
        times_S, ids_S = times_C.topk(num_sampled, largest=False)
        return Proposal(ids_S, lambda ids: log_at_least_once(self.probs(ids) * times_S[-1]))


class CountsOfSingleDraws(Frequency):
    """Distinct candidates, with n·q(y) stated."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        ids_S, _ = super().propose(labels, num_sampled, generator=generator)
        return Proposal(ids_S, lambda ids: math.log(num_sampled) + self.probs(ids).log())


@pytest.mark.parametrize(
    "sampler",
    [
        LimitOfTheLastDrawn(Classes(10, zipf_counts(10)), duplicates="redraw"),
        CountsOfSingleDraws(Classes(10, zipf_counts(10)), duplicates="redraw"),
        CountsOfSingleDraws(Classes(10, zipf_counts(10)), duplicates="drop"),
    ],
    ids=["limit of the last drawn", "single draws, redrawn", "single draws, dropped"],
)
def test_wrong_statements_are_caught(sampler):
    with pytest.raises(ConformanceError) as caught:
        check_sampler(sampler, num_sampled=5)
    assert caught.value.law == "expected counts"


def test_small_counts_are_not_clipped():
    candidates = draw(Uniform(100_000_000), [5], 10)
    assert candidates.label_log_expected_count.exp().item() == pytest.approx(1e-7)
    assert candidates.label_log_expected_count.item() < math.log(1e-6)


@pytest.mark.parametrize("name", MEMBERS)
def test_probabilities_sum_to_one(name):
    probs = build(name, 12345).probs(torch.arange(12345))
    assert probs.dtype == torch.float64
    assert (probs > 0).all()
    assert probs.sum().item() == pytest.approx(1, abs=1e-12)


def test_zipf_probabilities_do_not_cancel():
    ids = torch.tensor([0, 1000, 9_999_998, 2**24])
    exact = [math.log1p(1 / (k + 1)) / math.log(2**24 + 2) for k in ids.tolist()]
    np.testing.assert_allclose(LogUniform(2**24 + 1).probs(ids), exact, rtol=1e-14)
    wrong = ((ids + 2).float().log() - (ids + 1).float().log()) / math.log(2**24 + 2)
    assert np.abs(wrong.numpy() / exact - 1).max() > 0.1


@pytest.mark.parametrize(
    "sampler", [Uniform(2**24 + 1), LogUniform(2**24 + 1)], ids=["uniform", "log_uniform"]
)
def test_the_last_of_more_than_two_to_the_24_classes(sampler):
    tail = torch.arange(2**24 + 1 - 2**16, 2**24 + 1)
    prob = sampler.probs(tail).sum().item()
    ids = sampler.draw_ids(2**22, generator=torch.Generator().manual_seed(4))
    expected = len(ids) * prob
    assert abs((ids >= tail[0]).sum().item() - expected) < 4 * math.sqrt(expected * (1 - prob))
    assert {0, 1} == set((ids[ids >= tail[0]] % 2).tolist())
    assert ids.max() < 2**24 + 1


def test_frequency_draws_the_last_of_more_than_two_to_the_24_classes():
    counts = torch.zeros(2**24 + 1)
    counts[-1] = 2**24
    sampler = Frequency(Classes(2**24 + 1, counts), alpha=1.0)
    ids = sampler.draw_ids(10_000, generator=torch.Generator().manual_seed(5))
    assert abs((ids == 2**24).float().mean().item() - 0.5) < 4 * 0.5 / 100
    assert sampler.probs(torch.tensor([2**24, 0])).tolist() == [0.5, 2.0**-25]


def test_candidates_in_another_order_are_refused():
    """Labels are found among them by binary search."""
    ids, counts = torch.tensor([2, 7, 7, 9]), torch.zeros(4, dtype=torch.float64)
    assert Candidates(ids, counts, counts).class_ids is ids
    for wrong in (ids.flip(0), torch.tensor([2, 9, 7, 7])):
        with pytest.raises(UsageError, match="class_ids of Candidates must ascend"):
            Candidates(wrong, counts, counts)
