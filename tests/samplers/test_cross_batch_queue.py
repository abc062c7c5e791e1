"""The queue of former labels holds what was drawn, in order, and its declared counts are right at once."""

import math

import numpy as np
import pytest
import torch

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.samplers import build_sampler
from widemax.samplers.cross_batch_queue import CrossBatchQueue

C, N, P = 40, 12, 5
COUNTS = (5 * C / torch.arange(1, C + 1)).long()


def draw_labels(count, generator):
    return torch.multinomial(COUNTS.double(), count, replacement=True, generator=generator)


def steps(duplicates, num_steps, *, num_draws=400, start=None):
    """Candidates of the last of several steps, for many streams of labels."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_draws):
        sampler = CrossBatchQueue(Classes(C, COUNTS), duplicates=duplicates)
        if start is not None:
            sampler.load_state({"queue": torch.tensor(start)})
        for _ in range(num_steps):
            candidates = sampler.draw(draw_labels(P, generator), N, generator=generator)
        yield candidates


def ratios(draws, log_expected_count=lambda candidates: candidates.log_expected_count):
    """[R, C] count / expected count in each draw."""
    ratios_RC = []
    for candidates in draws:
        ratios_C = torch.zeros(C, dtype=torch.float64)
        ratios_RC.append(
            ratios_C.index_add_(0, candidates.class_ids, (-log_expected_count(candidates)).exp())
        )
    return torch.stack(ratios_RC)


def furthest(ratios_RC):
    """The distance of the mean from 1 in standard errors, in the column where it is largest."""
    return ((ratios_RC.mean(0) - 1) / (ratios_RC.std(0) / math.sqrt(len(ratios_RC)))).abs().max()


# With 5 labels a batch and 12 places, step 1 sees no label, step 3 some, and step 4 labels only.
@pytest.mark.parametrize("num_steps", [1, 3, 4])
@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_counts_are_as_declared_from_the_first_step_on_and_the_partition_unbiased(duplicates, num_steps):
    label, logits = 1, torch.randn(C, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[label] = 3
    shares_C1 = logits.softmax(0)[:, None]
    ratios_RC = ratios(steps(duplicates, num_steps))
    assert furthest(ratios_RC) < 5
    # The label is there in any case; its hits are removed.
    hits_R1 = ratios_RC[:, [label]] * shares_C1[label]
    estimates_R1 = ratios_RC @ shares_C1 - hits_R1 + shares_C1[label]
    assert furthest(estimates_R1) < 4
    assert furthest(estimates_R1 + hits_R1) > 8  # hits left in


def test_unigram_counts_of_distinct_labels_are_caught():
    """The wrong twin: n·p for labels from which repeated ones were taken out."""
    probs = COUNTS.double() / COUNTS.sum()
    wrong = ratios(steps("drop", 1), lambda candidates: (N * probs[candidates.class_ids]).log())
    assert furthest(wrong) > 15


def test_a_queue_that_starts_with_one_class_is_caught():
    """The wrong twin: places without a label yet that are filled with class 0 instead of draws."""
    assert furthest(ratios(steps("keep", 2, start=[0] * N, num_draws=250))) > 15


def test_candidates_are_the_last_labels_and_never_those_of_this_batch():
    generator = torch.Generator().manual_seed(2)
    sampler = CrossBatchQueue(Classes(1000, torch.ones(1000)), duplicates="keep")
    stream = torch.randint(1000, (20, 7), generator=generator)
    sampler.draw(stream[0], 17, generator=generator)
    for step in range(1, 20):
        ids = sampler.draw(stream[step], 17, generator=generator).class_ids
        last = stream[:step].flatten()[-17:]
        if len(last) == 17:
            assert ids.tolist() == last.sort().values.tolist()
        else:
            assert len(ids) == 17
            assert set(last.tolist()) <= set(ids.tolist())


def test_batches_longer_than_the_queue_and_other_lengths_of_it():
    generator = torch.Generator().manual_seed(3)
    sampler = CrossBatchQueue(Classes(100, torch.tensor([*[0] * 99, 1])), duplicates="keep")

    def ids(labels, num_sampled):
        return sampler.draw(torch.tensor(labels).long(), num_sampled, generator=generator).class_ids.tolist()

    assert ids([1, 2, 3, 4, 5], 3) == [99, 99, 99]
    assert ids([], 3) == [3, 4, 5]
    assert ids([6], 2) == [4, 5]
    assert ids([], 4) == [5, 6, 99, 99]


def test_draws_of_the_start_have_no_classes_without_a_row():
    counts = torch.tensor([0, 3, 0, 1, 0])
    sampler = CrossBatchQueue(Classes(5, counts), duplicates="keep")
    candidates = sampler.draw(torch.tensor([0, 3]), 4000, generator=torch.Generator().manual_seed(4))
    assert set(candidates.class_ids.tolist()) == {1, 3}
    assert abs((candidates.class_ids == 1).double().mean() - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 4000)
    # As a label, such a class must not have an infinite correction.
    np.testing.assert_allclose(candidates.label_log_expected_count.exp(), [1000, 1000], rtol=1e-12)


def test_rare_labels_are_not_clipped():
    """The wrong twin: probabilities of 10^-6 at least."""
    sampler = CrossBatchQueue(Classes(2, torch.tensor([10**9 - 1, 1])))
    candidates = sampler.draw(torch.tensor([1]), 50, generator=torch.Generator().manual_seed(5))
    assert candidates.label_log_expected_count.exp().item() == pytest.approx(50e-9, rel=1e-6)


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
@pytest.mark.parametrize("num_classes", [1, 2, 40])
def test_draws_are_sorted_and_repeatable(num_classes, duplicates):
    def run():
        generator = torch.Generator().manual_seed(6)
        sampler = CrossBatchQueue(Classes(num_classes, torch.ones(num_classes)), duplicates=duplicates)
        labels = torch.arange(30) % num_classes
        return [sampler.draw(labels[:9], 20, generator=generator) for _ in range(3)]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first.class_ids, second.class_ids)
        assert torch.equal(first.log_expected_count, second.log_expected_count)
        assert first.label_log_expected_count.isfinite().all()
        steps_between = first.class_ids.diff()
        assert (steps_between >= 0).all() if duplicates == "keep" else (steps_between > 0).all()


def test_a_state_brings_the_queue_back():
    generator = torch.Generator().manual_seed(7)
    first, second = CrossBatchQueue(Classes(C, COUNTS)), CrossBatchQueue(Classes(C, COUNTS))
    for _ in range(3):
        first.draw(draw_labels(P, generator), N, generator=generator)
    second.load_state(first.state())
    for _ in range(4):
        labels = draw_labels(P, generator)
        seed = int(torch.randint(99, (), generator=generator))
        straight, resumed = (
            sampler.draw(labels, N + 2, generator=torch.Generator().manual_seed(seed))
            for sampler in (first, second)
        )
        assert torch.equal(straight.class_ids, resumed.class_ids)
        assert torch.equal(straight.log_expected_count, resumed.log_expected_count)
    fresh = CrossBatchQueue(Classes(C, COUNTS)).draw(
        labels, N + 2, generator=torch.Generator().manual_seed(seed)
    )
    assert not torch.equal(fresh.class_ids, straight.class_ids)


def test_the_config_knows_the_member():
    assert isinstance(build_sampler("cross_batch_queue", Classes(3, torch.ones(3))), CrossBatchQueue)
    with pytest.raises(ConfigError, match="needs class counts"):
        CrossBatchQueue(3)
    with pytest.raises(ConfigError, match="redraw"):
        build_sampler({"kind": "cross_batch_queue", "duplicates": "redraw"}, Classes(3, torch.ones(3)))
