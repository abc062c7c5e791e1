"""Frequencies learned from the last labels: draws follow the stated probabilities at every step."""

import math
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import ConfigError
from widemax.samplers import build_sampler
from widemax.samplers.learned_frequency import LearnedFrequency

C, N, P = 40, 12, 6
ALL = torch.arange(C)
ZIPF = 1 / torch.arange(1, C + 1, dtype=torch.float64)


def draw_labels(generator, probs=ZIPF, count=P):
    return torch.multinomial(probs, count, replacement=True, generator=generator)


def exact_probs(labels, num_classes, uniform_share):
    """q from the definition."""
    if not labels:
        return np.full(num_classes, 1 / num_classes)
    seen = np.bincount(labels, minlength=num_classes) / len(labels)
    return uniform_share / num_classes + (1 - uniform_share) * seen


@given(st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=12), st.integers(1, 7), st.floats(0.01, 1))
def test_probabilities_follow_the_last_labels(stream, window, uniform_share):
    sampler = LearnedFrequency(7, window=window, uniform_share=uniform_share)
    generator = torch.Generator().manual_seed(0)
    last = deque(maxlen=window)
    for labels in stream:
        sampler.draw(torch.tensor(labels, dtype=torch.int64), 3, generator=generator)
        # Only labels of former batches count.
        probs = sampler.probs(torch.arange(7))
        np.testing.assert_allclose(probs, exact_probs(list(last), 7, uniform_share), rtol=1e-14)
        assert probs.sum().item() == pytest.approx(1, abs=1e-12)
        last.extend(labels)
    assert sampler.state()["labels"].tolist() == list(last)


def ratios(sampler, correct=lambda candidates: candidates.log_expected_count, num_draws=1000):
    """[R, C] count / expected count in each of many draws along a stream of labels."""
    generator = torch.Generator().manual_seed(1)
    ratios_RC = torch.zeros(num_draws, C, dtype=torch.float64)
    for ratios_C in ratios_RC:
        candidates = sampler.draw(draw_labels(generator), N, generator=generator)
        ratios_C.index_add_(0, candidates.class_ids, (-correct(candidates)).exp())
    return ratios_RC


def furthest(ratios_RC):
    """The distance of the mean from 1 in standard errors, in the column where it is largest."""
    return ((ratios_RC.mean(0) - 1) / (ratios_RC.std(0) / math.sqrt(len(ratios_RC)))).abs().max()


@pytest.mark.parametrize("window", [25, 2**20])
@pytest.mark.parametrize("duplicates", ["keep", "drop", "redraw"])
def test_counts_are_as_declared_while_labels_come_and_the_partition_unbiased(duplicates, window):
    ratios_RC = ratios(LearnedFrequency(C, window=window, duplicates=duplicates))
    assert furthest(ratios_RC) < 5
    label, logits = 2, torch.randn(C, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    ratios_RC[:, label] = 1  # it is there in any case, its hits are removed
    assert furthest(ratios_RC @ logits.softmax(0)[:, None]) < 4


def test_counts_are_as_declared_when_few_of_many_classes_are_drawn():
    """Redrawing then goes through draws, not through all classes."""
    num_classes, num_draws = 5000, 300
    sampler = LearnedFrequency(num_classes, window=300, duplicates="redraw")
    generator = torch.Generator().manual_seed(2)
    ratios_R = torch.zeros(num_draws, dtype=torch.float64)
    for draw in range(num_draws):
        candidates = sampler.draw(draw_labels(generator), 20, generator=generator)
        tail = candidates.class_ids >= C
        ratios_R[draw] = (-candidates.log_expected_count[tail]).exp().sum() / (num_classes - C)
    assert abs(ratios_R.mean() - 1) < 5 * ratios_R.std() / math.sqrt(num_draws)


def test_wrong_counts_are_caught():
    """The wrong twins: unigram counts of distinct draws, and counts without the uniform share."""
    sampler = LearnedFrequency(C, window=25)
    unigram = ratios(sampler, lambda candidates: (N * sampler.probs(candidates.class_ids)).log(), 400)
    assert furthest(unigram) > 8
    kept = LearnedFrequency(C, uniform_share=0.5, duplicates="keep")
    data = ratios(kept, lambda candidates: (N * ZIPF / ZIPF.sum()).log()[candidates.class_ids], 400)
    assert furthest(data) > 8


def test_counts_after_the_labels_of_the_batch_are_caught():
    """The wrong twin: expected counts of a q that has learned from the batch already."""
    sampler = LearnedFrequency(C, window=10, duplicates="keep")

    def too_late(candidates):
        sampler.state()
        return (N * sampler.probs(candidates.class_ids)).log()

    assert furthest(ratios(sampler, too_late, 800)) > 8


@pytest.mark.parametrize("fill", [0, 3, 8, 11])
def test_single_draws_follow_the_stated_probabilities(fill):
    """χ² of the draws against q, before any label, in a window half full, and once it has run over."""
    sampler = LearnedFrequency(5, window=8, uniform_share=0.3)
    sampler.load_state({"labels": torch.arange(fill) % 3})
    ids = sampler.draw_ids(40_000, generator=torch.Generator().manual_seed(4))
    expected = 40_000 * sampler.probs(torch.arange(5))
    observed = torch.bincount(ids, minlength=5)
    # Four degrees of freedom: 23.5 is exceeded once in ten thousand times.
    assert ((observed - expected) ** 2 / expected).sum() < 23.5
    assert ((observed - 8000) ** 2 / 8000).sum() < 23.5 or fill > 0


def test_a_draw_does_not_depend_on_its_own_labels():
    def second_draw(labels):
        sampler = LearnedFrequency(C)
        generator = torch.Generator().manual_seed(5)
        sampler.draw(torch.tensor([1, 2, 3]), N, generator=generator)
        return sampler.draw(labels, N, generator=generator).class_ids

    assert torch.equal(second_draw(ALL), second_draw(ALL[:0]))


def test_labels_changed_afterwards_are_learned_as_they_were():
    sampler, labels = LearnedFrequency(C), torch.tensor([1, 2, 3])
    sampler.draw(labels, N, generator=torch.Generator())
    labels.zero_()
    assert sampler.state()["labels"].tolist() == [1, 2, 3]


def test_it_follows_a_shift():
    sampler = LearnedFrequency(C, window=600, uniform_share=0.1)
    generator = torch.Generator().manual_seed(6)
    for _ in range(150):
        sampler.draw(draw_labels(generator), N, generator=generator)
    total = ZIPF / ZIPF.sum()
    before = sampler.probs(ALL)
    np.testing.assert_allclose(before, 0.1 / C + 0.9 * total, atol=0.05)
    for _ in range(101):
        sampler.draw(draw_labels(generator, ZIPF.flip(0)), N, generator=generator)
    after = sampler.probs(ALL)
    np.testing.assert_allclose(after, 0.1 / C + 0.9 * total.flip(0), atol=0.05)
    assert after[-1] > 3 * before[-1]
    # Every label of the former stream has left the window.
    sampler.draw(torch.full((600,), 7), N, generator=generator)
    sampler.draw(ALL[:0], N, generator=generator)
    exact = torch.full((C,), 0.1 / C, dtype=torch.float64)
    exact[7] += 0.9
    np.testing.assert_allclose(sampler.probs(ALL), exact, rtol=1e-12)


@pytest.mark.parametrize("num_batches", [2, 9])
def test_a_state_gives_the_same_next_draws(num_batches):
    generator = torch.Generator().manual_seed(7)
    first = LearnedFrequency(C, window=25)
    for _ in range(num_batches):
        first.draw(draw_labels(generator), N, generator=generator)
    second = LearnedFrequency(C, window=25)
    second.draw(ALL, N, generator=torch.Generator().manual_seed(8))
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    streams = []
    for sampler in (first, second):
        generator = torch.Generator().manual_seed(9)
        streams.append(
            [sampler.draw(draw_labels(generator), N, generator=generator) for _ in range(num_batches)]
        )
    for straight, resumed in zip(*streams, strict=True):
        assert torch.equal(straight.class_ids, resumed.class_ids)
        assert torch.equal(straight.log_expected_count, resumed.log_expected_count)
    generator = torch.Generator().manual_seed(9)
    fresh = LearnedFrequency(C, window=25).draw(draw_labels(generator), N, generator=generator)
    assert not torch.equal(fresh.label_log_expected_count, streams[0][0].label_log_expected_count)


def test_a_saved_state_changes_nothing_and_does_not_change():
    sampler, twin = LearnedFrequency(C, window=10), LearnedFrequency(C, window=10)
    generators = [torch.Generator().manual_seed(10) for _ in range(2)]
    for step in range(6):
        labels = ALL[step : step + 4]
        first = sampler.draw(labels, N, generator=generators[0]).class_ids
        state = sampler.state()["labels"]
        saved = state.clone()
        assert torch.equal(first, twin.draw(labels, N, generator=generators[1]).class_ids)
    sampler.draw(ALL, N, generator=generators[0])
    assert torch.equal(state, saved)


def test_expected_counts_are_known_until_the_next_draw():
    sampler, generator = LearnedFrequency(C), torch.Generator()
    proposal = sampler.propose(torch.tensor([5]), N, generator=generator)
    np.testing.assert_allclose(proposal.log_expected_count(ALL).exp(), 1 - (1 - 1 / C) ** N, rtol=1e-12)
    sampler.propose(torch.tensor([6]), N, generator=generator)
    with pytest.raises(AssertionError, match="until the next draw"):
        proposal.log_expected_count(ALL)


@pytest.mark.parametrize("duplicates", ["keep", "drop", "redraw"])
@pytest.mark.parametrize("num_classes", [1, 2, 40])
def test_draws_are_sorted_and_repeatable(num_classes, duplicates):
    def run():
        sampler = LearnedFrequency(num_classes, window=11, duplicates=duplicates)
        generator = torch.Generator().manual_seed(11)
        labels = torch.arange(7) % num_classes
        return [sampler.draw(labels, 5, generator=generator) for _ in range(4)]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first.class_ids, second.class_ids)
        assert torch.equal(first.log_expected_count, second.log_expected_count)
        assert first.log_expected_count.dtype == torch.float64
        assert first.label_log_expected_count.isfinite().all()
        steps = first.class_ids.diff()
        assert (steps >= 0).all() if duplicates == "keep" else (steps > 0).all()


def test_the_config_knows_the_member():
    sampler = build_sampler({"kind": "learned_frequency", "window": 5, "uniform_share": 1}, 9)
    assert isinstance(sampler, LearnedFrequency)
    assert sampler.window == 5
    for option in ({"window": 0}, {"uniform_share": 0}, {"uniform_share": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            build_sampler({"kind": "learned_frequency", **option}, 9)
