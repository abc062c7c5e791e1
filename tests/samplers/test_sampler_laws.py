"""Every sampler draws what it declares (laws 2, 3 and 7 of the mathematics); wrong twins are caught."""

import math

import numpy as np
import pytest
import torch

from widemax.samplers import Frequency, LogUniform, Uniform, samplers

MEMBERS = {"uniform": Uniform, "log_uniform": LogUniform, "frequency": Frequency}


def zipf_counts(num_classes):
    counts = (10 * num_classes / torch.arange(1, num_classes + 1)).long()
    counts[::7] = 0
    return counts


def build(name, num_classes, unique):
    return MEMBERS[name](num_classes, zipf_counts(num_classes), unique=unique)


def bins(num_classes):
    """Single classes first, then ever wider ranges, which pool the tail."""
    edges = np.unique(np.concatenate([np.arange(6), np.geomspace(6, num_classes, 12).astype(np.int64)]))
    return edges[edges <= num_classes]


def z_scores(sampler, num_sampled, log_expected_count, num_draws=400):
    """Mean counts of the bins minus the declared ones, in standard errors."""
    edges = bins(sampler.num_classes)
    generator = torch.Generator().manual_seed(1)
    counts_RE = np.zeros((num_draws, len(edges) - 1))
    for draw in range(num_draws):
        candidates = sampler.draw(torch.tensor([0]), num_sampled, generator=generator)
        counts_RE[draw] = np.histogram(candidates.ids_S.numpy(), edges)[0]
    ids = torch.arange(sampler.num_classes)
    running = np.concatenate([[0], log_expected_count(ids, num_sampled).exp().double().cumsum(0).numpy()])
    expected_E = np.diff(running[edges])
    # A spread below one event in all draws cannot be measured.
    variance_E = np.maximum(counts_RE.var(0, ddof=1), 1 / num_draws)
    return np.abs(counts_RE.mean(0) - expected_E) / np.sqrt(variance_E / num_draws)


@pytest.mark.parametrize("num_classes", [1, 2, 10, 3000, 1_000_000])
@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("name", MEMBERS)
def test_counts_are_as_declared(name, unique, num_classes):
    sampler = build(name, num_classes, unique)
    num_sampled = 5 if num_classes <= 10 else 500
    assert z_scores(sampler, num_sampled, sampler.log_expected_count).max() < 4


@pytest.mark.slow
@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("name", MEMBERS)
def test_counts_are_as_declared_among_ten_million(name, unique):
    sampler = build(name, 10_000_000, unique)
    assert z_scores(sampler, 5000, sampler.log_expected_count).max() < 4


@pytest.mark.parametrize("name", MEMBERS)
def test_unigram_counts_for_unique_draws_are_caught(name):
    sampler = build(name, 10, unique=True)
    wrong = build(name, 10, unique=False).log_expected_count
    assert z_scores(sampler, 5, wrong, num_draws=4000).max() > 8


def test_clipped_expected_counts_are_caught():
    sampler = Uniform(100_000_000)
    ids = torch.tensor([5])
    right = sampler.log_expected_count(ids, 10)
    assert right.exp().item() == pytest.approx(1e-7)
    assert right.clamp(min=math.log(1e-6)).exp().item() == pytest.approx(1e-6)


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("name", MEMBERS)
def test_the_estimated_partition_is_unbiased(name, unique):
    num_classes, num_sampled, label = 60, 20, 3
    sampler = build(name, num_classes, unique)
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(num_classes, dtype=torch.float64, generator=generator)

    def estimates(correct):
        values = []
        for _ in range(2000):
            candidates = sampler.draw(torch.tensor([label]), num_sampled, generator=generator)
            others = candidates.ids_S != label
            terms = (logits[candidates.ids_S] - correct(candidates)).exp()
            values.append(float(logits[label].exp() + terms[others].sum()))
        return np.array(values)

    def bias(values):
        return abs(values.mean() - logits.exp().sum().item()) / (values.std(ddof=1) / math.sqrt(len(values)))

    assert bias(estimates(lambda candidates: candidates.log_expected_count_S)) < 4
    if unique:
        unigram = build(name, num_classes, unique=False)
        wrong = estimates(lambda candidates: unigram.log_expected_count(candidates.ids_S, num_sampled))
        assert bias(wrong) > 8


@pytest.mark.parametrize("name", MEMBERS)
def test_probabilities_sum_to_one(name):
    probs = build(name, 12345, unique=True).probs(torch.arange(12345))
    assert probs.dtype == torch.float64
    assert (probs > 0).all()
    assert probs.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("name", MEMBERS)
def test_a_draw_is_sorted_repeatable_and_states_the_labels(name, unique):
    sampler = build(name, 50, unique)
    labels = torch.tensor([0, 49, 7])
    first, second = (sampler.draw(labels, 40, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.ids_S, second.ids_S)
    assert first.ids_S.dtype == torch.int64
    assert first.log_expected_count_S.dtype == torch.float64
    steps = first.ids_S.diff()
    assert (steps > 0).all() if unique else (steps >= 0).all() and (steps == 0).any()
    assert torch.equal(first.log_expected_count_labels_B, sampler.log_expected_count(labels, 40))


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
    # Above 2^24 a float32 holds even numbers only: both parities must appear.
    assert {0, 1} == set((ids[ids >= tail[0]] % 2).tolist())
    assert ids.max() < 2**24 + 1


def test_frequency_draws_the_last_of_more_than_two_to_the_24_classes():
    counts = torch.zeros(2**24 + 1)
    counts[-1] = 2**24
    sampler = Frequency(2**24 + 1, counts, alpha=1.0)
    ids = sampler.draw_ids(10_000, generator=torch.Generator().manual_seed(5))
    assert abs((ids == 2**24).float().mean().item() - 0.5) < 4 * 0.5 / 100
    assert sampler.probs(torch.tensor([2**24, 0])).tolist() == [0.5, 2.0**-25]


def test_registry_knows_the_members():
    assert {name: samplers[name] for name in samplers} == MEMBERS
    assert samplers.check_options("frequency", {"alpha": 0.5}) == {"alpha": 0.5, "unique": True}
