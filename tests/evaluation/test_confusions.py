from collections import Counter

import numpy as np

from widemax.evaluation.report.confusions import ConfusionCounter


def test_counts_pairs_exactly_below_the_cap() -> None:
    generator = np.random.default_rng(0)
    # Class ids near 10^8: the pair as one number needs more than 32 bits.
    labels, predicted = generator.integers(99_999_990, 100_000_000, (2, 500))
    confusions = ConfusionCounter(100_000_000)
    confusions.update(labels[:200], predicted[:200])
    confusions.update(labels[200:], predicted[200:])
    expected = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    got = {(label, other): count for label, other, count in confusions.most_common(1000)}
    assert got == expected
    assert not confusions.is_pruned


def test_pruning_keeps_the_frequent_pairs_and_says_so() -> None:
    confusions = ConfusionCounter(1000, max_pairs=20)
    rare = np.arange(100)
    for start in range(0, 100, 10):
        often = np.full(5, 7)
        confusions.update(
            np.r_[often, rare[start : start + 10]], np.r_[often + 1, rare[start : start + 10] + 500]
        )
    assert confusions.is_pruned
    assert confusions.most_common(1) == [(7, 8, 50)]
    assert len(confusions.most_common(1000)) <= 20
