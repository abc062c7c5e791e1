"""Whether classes are drawn as often as is stated. Shapes: R draws, N candidates, C classes, E bins."""

from dataclasses import replace

import torch
from torch import Tensor

from widemax.testing.bins import bins_of, least_variances, z_scores
from widemax.testing.report import NotApplicable, require
from widemax.testing.sampler_trial import Draws, Trial

MAX_Z = 5.0
"""Standard errors at which a difference is no chance: about one in two million, for each of some 100 bins."""

MANY_CLASSES = 2**20
TAIL_CLASSES = 2**16
TAIL_SAMPLED = 2**14
TAIL_DRAWS = 40
TAIL_EVENTS = 400


def expected_counts(trial: Trial) -> str:
    trial.require_exact()
    bin_C, num_bins = bins_of(trial.weights, trial.num_draws)
    differences_RE, expected_E = _differences(trial.draws.others(), trial.weights, bin_C, num_bins)
    return _require_small(differences_RE, expected_E, least_variances(bin_C, expected_E), "bins of classes")


def partition_function(trial: Trial) -> str:
    trial.require_exact()
    # Logits that lean toward the classes drawn often, or a few rare classes would be all of the noise.
    noise_C = torch.randn(trial.sampler.num_classes, dtype=torch.float64, generator=trial.generator)
    terms_C = trial.weights.sqrt() * (noise_C / 2).clamp(-2, 2).exp()
    terms_C /= terms_C.sum()
    one_bin_C = torch.zeros_like(terms_C, dtype=torch.int64)
    differences_R1, _ = _differences(trial.draws.others(), terms_C, one_bin_C, 1)
    z = float(z_scores(differences_R1, differences_R1.new_tensor(1e-18)))
    require(
        abs(z) < MAX_Z,
        f"E[Ẑ] must be Z = 1, found {1 + float(differences_R1.mean()):.5g}, {z:.1f} standard errors away.",
        cause="counts of single draws stated for draws without duplicates, or counts clipped from below",
    )
    return f"E[Ẑ] = Z within {abs(z):.1f} standard errors"


def last_classes(trial: Trial) -> str:
    trial.require_exact()
    num_classes = trial.sampler.num_classes
    if num_classes <= MANY_CLASSES:
        raise NotApplicable(f"there are only {num_classes} classes")
    tail = replace(trial, num_sampled=TAIL_SAMPLED, num_draws=TAIL_DRAWS)
    weights_C = tail.stated(torch.arange(num_classes))
    size = TAIL_CLASSES
    while size < num_classes // 2 and float(weights_C[-size:].sum()) * TAIL_DRAWS < TAIL_EVENTS:
        size *= 2
    # float32 holds only even numbers above 2^24, so that odd ids are judged by themselves.
    ids_C = torch.arange(num_classes)
    bin_C = torch.where(ids_C < num_classes - size, 2, ids_C % 2)
    differences_RE, expected_E = _differences(tail.draws.others(), weights_C, bin_C, 3)
    bins = f"halves, even and odd, of the last {size} classes"
    return _require_small(differences_RE[:, :2], expected_E[:2], torch.zeros(2), bins)


def _differences(draws: Draws, weights_C: Tensor, bin_C: Tensor, num_bins: int) -> tuple[Tensor, Tensor]:
    """Σ_y w_y · count(y)/expected count(y) over each bin, draw by draw, less its expectation Σ_y w_y."""
    expected_E = weights_C.new_zeros(num_bins).index_add_(0, bin_C, weights_C)
    num_draws = len(draws.own_R)
    terms_N = weights_C[draws.ids_N] * (-draws.log_expected_count_N).exp()
    place_N = draws.draw_N * num_bins + bin_C[draws.ids_N]
    sums_RE = weights_C.new_zeros(num_draws * num_bins).index_add_(0, place_N, terms_N)
    own_R = torch.arange(num_draws) * num_bins + bin_C[draws.own_R]
    sums_RE.index_add_(0, own_R, weights_C[draws.own_R])
    return sums_RE.view(num_draws, num_bins) - expected_E, expected_E


def _require_small(differences_RE: Tensor, expected_E: Tensor, least_E: Tensor, bins: str) -> str:
    # Less than one event in all draws cannot be measured.
    z_E = z_scores(differences_RE, least_E.clamp(min=1 / len(differences_RE)))
    worst = int(z_E.abs().argmax())
    expected, z = float(expected_E[worst]), float(z_E[worst])
    require(
        abs(z) < MAX_Z,
        f"of {len(z_E)} {bins}, one must be drawn {expected:.5g} times on average, found "
        f"{expected + float(differences_RE[:, worst].mean()):.5g}, {z:.1f} standard errors away.",
        cause="the probability of a single draw stated for draws without duplicates, counts clipped from "
        "below, classes out of reach (ids truncated, or rounded by float32), or the largest count stated for "
        "a mixture instead of the sum",
    )
    return f"as stated within {abs(z):.1f} standard errors ({len(z_E)} {bins})"
