"""The laws of samplers. Shapes: B rows, S sampled, C classes."""

from functools import partial

import torch
from torch import Tensor

from widemax.errors import UsageError
from widemax.options import checked
from widemax.samplers import Query, Sampler
from widemax.testing.report import Report, require, run_laws
from widemax.testing.sampler_counts import expected_counts, last_classes, partition_function
from widemax.testing.sampler_trial import Trial


@checked
def check_sampler(
    sampler: Sampler,
    *,
    num_sampled: int = 16,
    label_probs: Tensor | None = None,
    query: Query | None = None,
    seed: int = 0,
    num_draws: int = 2000,
) -> Report:
    """Whether a sampler draws what it states.

    For every class y but the row's own label, E[times y is drawn / exp(log_expected_count(y))] = 1; so
    Ẑ = e^{s_t} + Σ_{j≠t} e^{s_j − log_expected_count(j)} is an unbiased estimate of Z. Both are judged in
    standard errors of ``num_draws`` draws, classes drawn rarely in bins. The sampler is left as it was found.

    Args:
        sampler: the sampler.
        num_sampled: the number of draws asked for at a time.
        label_probs: [C] the distribution labels come from, uniform by default; a sampler that takes its
            candidates from labels needs it.
        query: hidden vectors and class weights, for samplers that follow the model.
        seed: of labels and draws.
        num_draws: how often to draw; the smallest error found shrinks with its root.

    Raises:
        ConformanceError: a law is broken.
        UsageError: no ``label_probs`` for a sampler that takes its candidates from labels.

    Example:
        >>> from widemax.samplers import LogUniform
        >>> list(check_sampler(LogUniform(50), num_draws=500).held)
        ['form', 'same seed', 'labels', 'expected counts', 'partition function']

    Source: TensorFlow, "Candidate Sampling Algorithms".
    """
    if sampler.uses_labels and label_probs is None:
        raise UsageError("label_probs must be given for a sampler that takes its candidates from labels.")
    cumulative_C = None if label_probs is None else label_probs.double().cumsum(0)
    generator = torch.Generator().manual_seed(seed)
    trial = Trial(sampler, num_sampled, num_draws, cumulative_C, query, generator)
    before = trial.state()
    laws = {
        "form": _form,
        "same seed": _same_seed,
        "labels": _labels,
        "expected counts": expected_counts,
        "partition function": partition_function,
        "last classes": last_classes,
    }
    try:
        return run_laws(type(sampler).__name__, {name: partial(law, trial) for name, law in laws.items()})
    finally:
        sampler.load_state(before)


def _form(trial: Trial) -> str:
    for _ in range(5):
        labels = trial.labels()
        candidates = trial.draw(labels)
        ids_S = candidates.class_ids
        require(ids_S.dtype == torch.int64, f"ids must be int64, found {ids_S.dtype}.", cause="float ids")
        lowest, highest = (int(ids_S.min()), int(ids_S.max())) if len(ids_S) else (0, 0)
        require(
            lowest >= 0 and highest < trial.sampler.num_classes,
            f"ids must lie in [0, {trial.sampler.num_classes}), found {lowest} to {highest}.",
            cause="rounding of the largest draw",
        )
        for name, counts, size in (
            ("candidates", candidates.log_expected_count, len(ids_S)),
            ("labels", candidates.label_log_expected_count, len(labels)),
        ):
            require(
                counts.dtype == torch.float64 and counts.shape == (size,) and bool(counts.isfinite().all()),
                f"the log expected counts of {name} must be {size} finite float64 numbers, found "
                f"{counts.dtype} of shape {tuple(counts.shape)}, {int((~counts.isfinite()).sum())} infinite.",
                cause="log(k + 1) − log(k) in float32, which is 0 for large k; log1p(1/(k + 1)) is not",
            )
    return "ascending int64 ids within the classes, finite float64 counts"


def _same_seed(trial: Trial) -> str:
    sampler, labels = trial.sampler, trial.labels()
    state = trial.state()
    draws = []
    for _ in range(2):
        sampler.load_state({name: value.clone() for name, value in state.items()})
        draws.append(trial.draw(labels, torch.Generator().manual_seed(7)))
    same = torch.equal(draws[0].class_ids, draws[1].class_ids) and torch.equal(
        draws[0].log_expected_count, draws[1].log_expected_count
    )
    require(
        same,
        "one seed and one state must give one draw, found two different ones.",
        cause="randomness from outside the generator, or something learned that state() leaves out",
    )
    return "one seed and one state give one draw"


def _labels(trial: Trial) -> str:
    num_found = 0
    for seed in range(20):
        state, labels = trial.state(), trial.labels()
        drawn = trial.draw(labels, torch.Generator().manual_seed(seed)).class_ids
        if len(drawn) and not trial.sampler.uses_labels:
            # The same draw once more, this time with labels that it hits.
            trial.sampler.load_state(state)
            labels = drawn[torch.arange(trial.num_rows) % len(drawn)]
        candidates = trial.draw(labels, torch.Generator().manual_seed(seed))
        hit_BS = labels[:, None] == candidates.class_ids
        gap_BS = (candidates.label_log_expected_count[:, None] - candidates.log_expected_count).abs()
        gap = float(gap_BS.masked_fill(~hit_BS, 0.0).max()) if hit_BS.numel() else 0.0
        num_found += int(hit_BS.sum())
        require(
            gap <= 1e-9,
            "a label that is drawn must have the count stated for the candidate, found a difference of "
            f"{gap:.3g} in its logarithm.",
            cause="another formula for labels than for candidates",
        )
    return f"labels and candidates have one count ({num_found} compared)"
