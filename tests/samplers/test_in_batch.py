"""Labels as candidates for one another: the counts that a row sees, by going through all batches."""

import itertools
import math

import numpy as np
import pytest
import torch

from widemax.classes import Classes
from widemax.errors import ConfigError, ShapeError
from widemax.samplers import build_sampler
from widemax.samplers.in_batch import InBatch

GENERATOR = torch.Generator()


def zipf_counts(num_classes):
    return (5 * num_classes / torch.arange(1, num_classes + 1)).long()


def batches(counts, num_others, own=0):
    """Every batch in which row 0 has the label ``own``, with its probability."""
    probs = (counts.double() / counts.sum()).tolist()
    for others in itertools.product(range(len(counts)), repeat=num_others):
        yield torch.tensor([own, *others]), math.prod(probs[other] for other in others)


def mean_ratios(sampler, counts, num_others, *, own=0, wrong=lambda log_count, num_labels: log_count):
    """Σ over batches of P(batch)·count / expected count of each class but the row's own; all must be 1."""
    ratios_C = torch.zeros(len(counts), dtype=torch.float64)
    for labels, prob in batches(counts, num_others, own):
        candidates = sampler.draw(labels, 1, generator=GENERATOR)
        log_count_S = wrong(candidates.log_expected_count, len(labels))
        ratios_C.index_add_(0, candidates.class_ids, prob * (-log_count_S).exp())
    return np.delete(ratios_C.numpy(), own)


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
@pytest.mark.parametrize(("num_classes", "num_others"), [(15, 2), (3, 5), (2, 8), (2, 1)])
def test_counts_are_those_that_a_row_sees(num_classes, num_others, duplicates):
    counts = zipf_counts(num_classes)
    sampler = InBatch(Classes(num_classes, counts), duplicates=duplicates)
    for own in (0, num_classes - 1):
        np.testing.assert_allclose(mean_ratios(sampler, counts, num_others, own=own), 1, rtol=1e-12)


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_counting_the_own_row_is_caught(duplicates):
    """The wrong twin: P labels in place of P − 1, which halves the weight of what the other row brings."""
    counts = zipf_counts(40)
    sampler = InBatch(Classes(40, counts), duplicates=duplicates)
    probs = counts.double() / counts.sum()

    def of_all_labels(log_count_S, num_labels):
        if duplicates == "keep":
            return log_count_S + math.log(num_labels / (num_labels - 1))
        others_S = 1 - (1 - log_count_S.exp()) ** (num_labels / (num_labels - 1))
        return others_S.log()

    ratios = mean_ratios(sampler, counts, 1, wrong=of_all_labels)
    assert (ratios < 0.6).all()
    np.testing.assert_allclose(
        ratios, 1 / (2 - (duplicates == "drop") * probs[1:]), rtol=1e-12, err_msg="the twin's own bias"
    )


def test_unigram_counts_of_distinct_labels_are_caught():
    """The wrong twin: (P − 1)·p for labels from which repeated ones were taken out."""
    counts = zipf_counts(3)

    def unigram(log_count_S, num_labels):
        probs_S = 1 - (1 - log_count_S.exp()) ** (1 / (num_labels - 1))
        return ((num_labels - 1) * probs_S).log()

    assert (mean_ratios(InBatch(Classes(3, counts)), counts, 6, wrong=unigram) < 0.7).all()


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_the_partition_of_the_other_classes_is_estimated_without_bias(duplicates):
    """Importance: E[e^(own logit) + Σ e^s / expected count] = Z once hits are taken out."""
    counts, own = zipf_counts(12), 2
    sampler = InBatch(Classes(12, counts), duplicates=duplicates)
    logits = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    # What the others give, besides P in place of P − 1.
    given = 0.0
    for labels, prob in batches(counts, 3, own):
        candidates = sampler.draw(labels, 1, generator=GENERATOR)
        others = candidates.class_ids != own
        terms = (logits[candidates.class_ids] - candidates.log_expected_count).exp()[others]
        given += prob * terms.sum().item()
    exact, own_part = logits.exp().sum().item(), logits[own].exp().item()
    assert own_part + given == pytest.approx(exact, rel=1e-12)
    assert abs((own_part + 3 / 4 * given) / exact - 1) > 0.1


def test_the_factor_cancels_in_the_conditional_correction_if_duplicates_are_kept():
    counts, labels = torch.tensor([60, 30, 10]), torch.tensor([0, 1, 1, 2])

    def softmax(duplicates, copies):
        sampler = InBatch(Classes(3, counts), duplicates=duplicates)
        candidates = sampler.draw(labels.repeat(copies), 1, generator=GENERATOR)
        return (-candidates.label_log_expected_count[:4]).softmax(0).numpy()

    np.testing.assert_allclose(softmax("keep", 1), softmax("keep", 5), rtol=1e-14)
    assert np.abs(softmax("drop", 1) - softmax("drop", 5)).max() > 0.05


def test_rare_labels_are_not_clipped():
    """The wrong twin: expected counts of 10^-6 at least, under which all rare classes are one."""
    counts = torch.tensor([10**9, 10, 1, 0])
    candidates = InBatch(Classes(4, counts)).draw(torch.tensor([2, 1, 0, 3]), 1, generator=GENERATOR)
    total = 10**9 + 11
    exact = [math.log(-math.expm1(3 * math.log1p(-count / total))) for count in (10**9, 10, 1, 1)]
    np.testing.assert_allclose(candidates.log_expected_count, exact, rtol=1e-12)
    clipped = candidates.log_expected_count.clamp(min=math.log(1e-6))
    assert (candidates.log_expected_count[1:] < clipped[1:] - 3).all()


def test_classes_without_a_row_leave_the_shares_of_the_others_as_they_are():
    counts = torch.tensor([3, 1, *[0] * 1000])
    candidates = InBatch(Classes(1002, counts), duplicates="keep").draw(
        torch.arange(1002), 1, generator=GENERATOR
    )
    np.testing.assert_allclose(candidates.log_expected_count[:3].exp() / 1001, [0.75, 0.25, 0.25])


def test_candidates_are_the_sorted_labels_whatever_is_asked_for():
    labels = torch.tensor([7, 2, 7, 0])
    kept, dropped = (
        InBatch(Classes(9, torch.ones(9)), duplicates=duplicates) for duplicates in ("keep", "drop")
    )
    for num_sampled in (1, 100):
        assert kept.draw(labels, num_sampled, generator=GENERATOR).class_ids.tolist() == [0, 2, 7, 7]
        assert dropped.draw(labels, num_sampled, generator=GENERATOR).class_ids.tolist() == [0, 2, 7]
    assert labels.tolist() == [7, 2, 7, 0]
    assert kept.uses_labels


@pytest.mark.parametrize("counts", [torch.tensor([4]), torch.tensor([0]), None])
@pytest.mark.parametrize("duplicates", ["keep", "drop"])
@pytest.mark.parametrize("num_labels", [0, 1, 2, 5])
def test_one_class_and_batches_of_one_row_stay_finite(num_labels, duplicates, counts):
    labels = torch.zeros(num_labels, dtype=torch.int64)
    candidates = InBatch(Classes(1, counts), duplicates=duplicates).draw(labels, 1, generator=GENERATOR)
    for log_count in (candidates.log_expected_count, candidates.label_log_expected_count):
        assert log_count.dtype == torch.float64
        assert log_count.isfinite().all()
        assert (-log_count).exp().float().isfinite().all()


def test_a_row_alone_adds_nothing_to_what_others_expect():
    """In a mixture, the part of the other samplers must remain what it is."""
    alone = InBatch(Classes(4, torch.ones(4))).draw(torch.tensor([2]), 1, generator=GENERATOR)
    assert alone.log_expected_count.exp().item() < 1e-19


def test_without_counts_the_shares_are_learned_from_the_stream():
    counts = zipf_counts(40)
    generator = torch.Generator().manual_seed(1)
    sampler = InBatch(40, sketch_width=1024, sketch_depth=3, duplicates="keep")
    assert sampler.approximation
    assert InBatch(Classes(40, counts)).approximation is None
    stream = torch.multinomial(counts.double(), 300 * 64, replacement=True, generator=generator)
    for labels in stream.view(300, 64):
        sampler.draw(labels, 1, generator=generator)
    everything = torch.cat([torch.arange(40), stream[:24]])
    candidates = sampler.draw(everything, 1, generator=generator)
    seen = torch.bincount(torch.cat([stream, everything]), minlength=40).double()
    learned = candidates.label_log_expected_count[:40].exp() / 63
    np.testing.assert_allclose(learned, seen / seen.sum(), rtol=1e-12)
    np.testing.assert_allclose(learned, counts.double() / counts.sum(), rtol=0.4)


def test_this_batch_counts_so_that_no_label_is_unseen():
    candidates = InBatch(10).draw(torch.tensor([1, 1, 4, 9]), 1, generator=GENERATOR)
    exact = [1 - (1 - share) ** 3 for share in (0.5, 0.25, 0.25)]
    np.testing.assert_allclose(candidates.log_expected_count.exp(), exact, rtol=1e-12)


def test_a_state_brings_what_was_learned_back():
    first, second = InBatch(50, sketch_width=64), InBatch(50, sketch_width=64)
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        first.draw(torch.randint(50, (20,), generator=generator), 1, generator=generator)
    second.load_state(first.state())
    labels = torch.arange(0, 50, 3)
    resumed, straight, fresh = (
        sampler.draw(labels, 1, generator=generator).log_expected_count
        for sampler in (second, first, InBatch(50, sketch_width=64))
    )
    assert torch.equal(resumed, straight)
    assert not torch.equal(resumed, fresh)


def test_with_counts_there_is_no_state():
    sampler = InBatch(Classes(2, torch.ones(2)))
    assert sampler.state() == {}
    sampler.load_state({})


def test_the_config_knows_the_member():
    assert isinstance(build_sampler({"kind": "in_batch", "duplicates": "keep"}, 3), InBatch)
    with pytest.raises(ConfigError, match="redraw"):
        build_sampler({"kind": "in_batch", "duplicates": "redraw"}, 3)
    with pytest.raises(ConfigError, match="power of two"):
        build_sampler({"kind": "in_batch", "sketch_width": 1000}, 3)
    with pytest.raises(ShapeError, match="3 classes"):
        InBatch(Classes(3, torch.ones(4)))
