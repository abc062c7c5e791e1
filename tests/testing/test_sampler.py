"""check_sampler passes exact samplers, and catches each known defect by the law it breaks."""

import math

import pytest
import torch

from widemax.classes import Classes
from widemax.errors import UsageError
from widemax.samplers import Frequency, LogUniform, Mixture, Poisson, Proposal, Query, Sampler, Uniform
from widemax.testing import ConformanceError, check_sampler

C = 40
COUNTS = (200 / torch.arange(1, C + 1)).long()
PROBS = COUNTS.double() / COUNTS.sum()


def at_least_once(probs, num_draws):
    return torch.log(-torch.expm1(num_draws * torch.log1p(-probs)))


class LabelsOfOthers(Sampler):
    """The labels of the batch, as in-batch negatives; the options are known mistakes."""

    uses_labels = True

    def __init__(self, *, drop=True, unigram=False, counts_own=False):
        super().__init__(C)
        self.drop, self.unigram, self.counts_own = drop, unigram, counts_own

    def propose(self, labels, num_sampled, *, generator, query=None):
        num_others = len(labels) - (not self.counts_own)
        if self.drop and not self.unigram:
            return Proposal(labels.unique(), lambda ids: at_least_once(PROBS[ids], num_others))
        ids_S = labels.unique() if self.drop else labels
        return Proposal(ids_S, lambda ids: math.log(num_others) + PROBS[ids].log())


GOOD = {
    "uniform": Uniform(C),
    "log-uniform, kept": LogUniform(C, duplicates="keep"),
    "frequency, redrawn": Frequency(Classes(C, COUNTS), duplicates="redraw"),
    "poisson": Poisson(Classes(C, COUNTS)),
    "mixture": Mixture(Classes(C, COUNTS)),
    "more draws than classes": Uniform(3),
    "one class": LogUniform(1, duplicates="keep"),
    "labels": LabelsOfOthers(),
    "labels, kept": LabelsOfOthers(drop=False),
}


@pytest.mark.parametrize("sampler", GOOD.values(), ids=GOOD)
def test_an_exact_sampler_passes(sampler):
    report = check_sampler(sampler, label_probs=PROBS if sampler.num_classes == C else None, num_draws=500)
    assert set(report.held) == {"form", "same seed", "labels", "expected counts", "partition function"}
    assert set(report.skipped) == {"last classes"}


class Truncated(Sampler):
    """F2: the sorted distinct draws cut to n, so that rare classes are never reached."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        probs_C = LogUniform(self.num_classes).probs(torch.arange(self.num_classes))
        ids_S = torch.multinomial(probs_C, 2 * num_sampled, replacement=True, generator=generator)
        return Proposal(
            ids_S.unique()[:num_sampled], lambda ids: at_least_once(probs_C[ids], 2 * num_sampled)
        )


class CoarseZipf(LogUniform):
    """F3: log(k + 2) − log(k + 1) in float32."""

    def probs(self, class_ids):
        log_k1, log_k2 = (class_ids + 1).float().log(), (class_ids + 2).float().log()
        return ((log_k2 - log_k1) / math.log(self.num_classes + 1)).double()


class Clipped(LogUniform):
    """F5: probabilities clipped at 1e-6."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        ids_S, _ = super().propose(labels, num_sampled, generator=generator)
        return Proposal(ids_S, lambda ids: at_least_once(self.probs(ids).clamp(min=1e-6), num_sampled))


class Unigram(Frequency):
    """F7, F8: distinct draws with the probability of a single one."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        ids_S, _ = super().propose(labels, num_sampled, generator=generator)
        return Proposal(ids_S, lambda ids: math.log(num_sampled) + self.probs(ids).log())


class FixedTries(Frequency):
    """TensorFlow's statement for distinct draws: 1 − (1 − q)^tries, as if the tries had been fixed."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        seen, tries = set(), 0
        while len(seen) < num_sampled:
            seen.add(int(self.draw_ids(1, generator=generator)))
            tries += 1
        ids_S = torch.tensor(sorted(seen))
        return Proposal(ids_S, lambda ids: at_least_once(self.probs(ids), tries))


class LowerHalf(Uniform):
    """F10: torch.multinomial at 2^24 classes never drew from the upper half."""

    def draw_ids(self, num_sampled, *, generator):
        return torch.randint(self.num_classes // 2, (num_sampled,), generator=generator)


class EvenOnly(Uniform):
    """F11: ids that went through float32, which above 2^24 holds even numbers only."""

    def draw_ids(self, num_sampled, *, generator):
        return super().draw_ids(num_sampled, generator=generator) // 2 * 2


class LargestPart(Mixture):
    """A mixture that states the largest expected count instead of the sum."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        proposals = [
            part.propose(labels, count, generator=generator)
            for part, count in zip(self.parts, self.split(num_sampled), strict=True)
        ]
        return Proposal(
            torch.cat([proposal.ids_S for proposal in proposals]),
            lambda ids: torch.stack([part.log_expected_count(ids) for part in proposals]).amax(0),
        )


class GlobalRandomness(Uniform):
    def draw_ids(self, num_sampled, *, generator):
        return torch.randint(self.num_classes, (num_sampled,))


class ForgetfulMemory(Uniform):
    """Draws labels of the batch before, but has no state."""

    before = torch.tensor([0, 1, 2])

    def propose(self, labels, num_sampled, *, generator, query=None):
        ids_S, self.before = self.before, labels
        return Proposal(ids_S, lambda ids: torch.zeros_like(ids, dtype=torch.float64))


class OtherLabels(Uniform):
    """Corrects candidates, and labels by another formula."""

    def draw(self, labels, num_sampled, *, generator, query=None):
        draw = super().draw(labels, num_sampled, generator=generator)
        draw.label_log_expected_count.add_(0.1)
        return draw


class SinglePrecision(Uniform):
    def probs(self, class_ids):
        return super().probs(class_ids).float()


class OutOfRange(Uniform):
    def draw_ids(self, num_sampled, *, generator):
        return super().draw_ids(num_sampled, generator=generator) + 1


DEFECTS = {
    "truncated": (Truncated(200), "expected counts"),
    "float32 Zipf": (CoarseZipf(2**20), "expected counts"),
    "float32 Zipf at ten million": (CoarseZipf(10**7), "form"),
    "clipped": (Clipped(2**20), "expected counts"),
    "unigram": (Unigram(Classes(C, COUNTS)), "expected counts"),
    "fixed tries": (FixedTries(Classes(C, COUNTS), alpha=1.0), "partition function"),
    "unigram of labels": (LabelsOfOthers(unigram=True), "expected counts"),
    "counts its own label": (LabelsOfOthers(counts_own=True), "partition function"),
    "lower half": (LowerHalf(2**20), "expected counts"),
    "even ids": (EvenOnly(2**21), "last classes"),
    "largest part": (LargestPart(Classes(C, COUNTS)), "expected counts"),
    "global randomness": (GlobalRandomness(C), "same seed"),
    "no state": (ForgetfulMemory(C), "same seed"),
    "other labels": (OtherLabels(C), "labels"),
    "float32": (SinglePrecision(C), "form"),
    "out of range": (OutOfRange(3), "form"),
}


SUBTLE = "float32 Zipf", "counts its own label"
"""They show only in twice as many draws as the others."""


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name):
    (sampler, law), num_draws = DEFECTS[name], 2000 if name in SUBTLE else 1000
    with pytest.raises(ConformanceError) as caught:
        check_sampler(sampler, label_probs=PROBS if sampler.num_classes == C else None, num_draws=num_draws)
    assert caught.value.law == law
    assert type(sampler).__name__ in str(caught.value)
    assert "A usual cause: " in str(caught.value)


def test_the_message_gives_the_numbers():
    with pytest.raises(ConformanceError, match=r"drawn \S+ times on average, found \S+, \S+ standard errors"):
        check_sampler(Unigram(Classes(C, COUNTS)), num_draws=500)


def test_the_partition_function_alone_catches_a_wrong_count(monkeypatch):
    monkeypatch.setattr("widemax.testing.sampler.expected_counts", lambda trial: "not asked")
    for sampler in (
        Unigram(Classes(C, COUNTS)),
        LargestPart(Classes(C, COUNTS)),
        LabelsOfOthers(counts_own=True),
    ):
        with pytest.raises(ConformanceError, match=r"E\[Ẑ\] must be Z = 1, found") as caught:
            check_sampler(sampler, label_probs=PROBS, num_draws=1000)
        assert caught.value.law == "partition function"


def test_an_approximate_sampler_is_not_judged_by_its_counts():
    sampler = Unigram(Classes(C, COUNTS))
    sampler.approximation = "for speed"
    report = check_sampler(sampler)
    assert report.skipped["expected counts"] == "its expected counts are approximate: for speed"
    assert {"partition function", "last classes"} < set(report.skipped)


def test_the_sampler_is_left_as_it_was_and_the_seed_decides():
    class Remembers(Uniform):
        seen = torch.zeros(1, dtype=torch.int64)

        def propose(self, labels, num_sampled, *, generator, query=None):
            self.seen = self.seen + 1
            return super().propose(labels, num_sampled, generator=generator)

        def state(self):
            return {"seen": self.seen}

        def load_state(self, state):
            self.seen = state["seen"]

    sampler = Remembers(C)
    first, second = (check_sampler(sampler, num_draws=200) for _ in range(2))
    assert sampler.seen == 0
    assert first == second
    assert check_sampler(sampler, seed=1, num_draws=200) != first


def test_a_query_is_passed_on():
    asked = []

    class Follows(Uniform):
        def propose(self, labels, num_sampled, *, generator, query=None):
            asked.append((query, len(labels)))
            return super().propose(labels, num_sampled, generator=generator)

    query = Query(torch.zeros(5, 2), lambda ids: (torch.zeros(len(ids), 2), torch.zeros(len(ids))))
    check_sampler(Follows(C), query=query, num_draws=100)
    assert set(asked) == {(query, 5)}


def test_label_probs_must_be_given_for_candidates_from_labels():
    with pytest.raises(UsageError, match="label_probs must be given"):
        check_sampler(LabelsOfOthers())


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Uniform(2**25), LogUniform(2**25)], ids=["uniform", "log_uniform"])
def test_beyond_two_to_the_24(sampler):
    assert "last classes" in check_sampler(sampler).held


@pytest.mark.slow
def test_ids_rounded_by_float32_are_caught():
    class Rounded(Uniform):
        def draw_ids(self, num_sampled, *, generator):
            ids_S = super().draw_ids(num_sampled, generator=generator)
            return ids_S.float().long().clamp(max=self.num_classes - 1)

    with pytest.raises(ConformanceError) as caught:
        check_sampler(Rounded(2**25))
    assert caught.value.law == "last classes"
