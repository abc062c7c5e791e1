"""How far each sampler's gradient lies from the exact one, on real hidden vectors, and at what cost.

Shapes: B rows, D hidden, C classes, S sampled, P labels.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import mean
from timeit import repeat
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.heads import (
    Correction,
    Labels,
    LinearHead,
    SeveralLabels,
    exact_sigmoid_loss,
    exact_softmax_loss,
    sampled_sigmoid_loss,
    sampled_softmax_loss,
)
from widemax.numerics import logsumexp
from widemax.options import AtLeast1, checked
from widemax.registry import Spec
from widemax.samplers import Candidates, Frequency, Query, Sampler, build_sampler, samplers

WARM_UP_DRAWS = 8
"""Batches of labels that samplers which learn from labels see before they are measured."""

EXACT_STEPS = 9
"""Steps of the exact loss that are timed."""

DIVERGENCES = 8
"""Draws whose weights are looked at: these numbers vary little."""

USUAL_CORRECTIONS: dict[str, tuple[Correction, ...]] = {
    "softmax": ("conditional", "importance"),
    "sigmoid": ("importance", "conditional"),
}

LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "softmax": (exact_softmax_loss, sampled_softmax_loss),
    "sigmoid": (exact_sigmoid_loss, sampled_sigmoid_loss),
}
"""Over all classes, and over sampled ones."""


@dataclass(frozen=True)
class SamplerAudit:
    """What one sampler with one correction does to the gradient. "Relative" is to the exact gradient's norm.

    Attributes:
        sampler, correction: what was measured.
        num_candidates: mean number of candidates of a draw.
        bias: relative norm of the mean gradient's error, its own noise taken off.
        deviation: relative root of the gradient's variance, summed over its entries.
        kl_nats: KL(q‖p), from the share q of each class among expected candidates to the model's probability
            p, mean over rows; None for yes-or-no questions, whose probabilities do not sum to 1.
        effective_samples: (Σw)²/Σw² of the weights e^s/E[count] of a row's candidates, mean over rows.
        step_s: seconds of a draw with forward and backward pass, the shortest of all.
        error_at_equal_time: √(bias² + deviation² · step_s / fastest step_s): what is left of the error when
            a cheaper sampler may average more draws in the time of a dearer one.
        approximation: why expected counts are not exact, or None if they are.
    """

    sampler: str
    correction: str
    num_candidates: float
    bias: float
    deviation: float
    kl_nats: float | None
    effective_samples: float
    step_s: float
    error_at_equal_time: float
    approximation: str | None


@dataclass(frozen=True)
class Audit:
    """Every sampler beside the exact loss, the best first.

    Attributes:
        rows: the samplers, by error at equal time.
        exact_step_s: seconds of the exact loss's forward and backward pass, the shortest of all.
        num_sampled, num_draws, batch_size, num_classes: how it was measured.
        recommended: the first row's sampler and correction, or the exact loss where it is no slower.
        reason: one sentence that says why.
    """

    rows: tuple[SamplerAudit, ...]
    exact_step_s: float
    num_sampled: int
    num_draws: int
    batch_size: int
    num_classes: int
    recommended: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The audit as JSON-able values; a number that is not finite, which JSON lacks, is None."""
        values = asdict(self)
        values["rows"] = [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in row.items()
            }
            for row in values["rows"]
        ]
        return values


@checked
def audit_samplers(
    head: LinearHead,
    hidden: Tensor,
    labels: Labels,
    class_counts: Tensor,
    *,
    num_sampled: AtLeast1,
    specs: Sequence[Spec | Sampler] | None = None,
    corrections: Sequence[Correction] | None = None,
    num_draws: Annotated[int, Field(ge=2)] = 64,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Audit:
    """Measure samplers against the exact loss, on one batch of a trained model.

    The gradient is that of the mean loss with respect to the hidden vectors and, projected onto one random
    direction, to the class weights; relative errors of the two are averaged as squares. Samplers that draw
    the batch's labels are given labels drawn from ``class_counts`` instead, so that their noise shows.

    Args:
        head: the classes, with the temperature and score of training.
        hidden: [B, D] hidden vectors of real rows.
        labels: their labels.
        class_counts: [C] how often each class occurs in the training data.
        num_sampled: draws a batch.
        specs: samplers to measure; every registered one without.
        corrections: corrections to measure; conditional and importance without.
        num_draws: how often each sampler draws.
        seed: of the draws.

    Raises:
        OptionError: fewer than two draws, or another option that cannot be.

    Example:
        >>> from widemax.heads import ExactHead
        >>> head = ExactHead(50, 4)
        >>> audit = audit_samplers(
        ...     head, torch.ones(3, 4), torch.tensor([1, 2, 3]), torch.ones(50), num_sampled=10, num_draws=4,
        ...     specs=["uniform"], corrections=["importance"],
        ... )
        >>> audit.rows[0].num_candidates < 10  # duplicates are dropped
        True
    """
    bench = _Bench(head, hidden.detach(), labels, class_counts, num_sampled, seed)
    measurements = [
        _Measurement(bench, spec, correction)
        for spec in (specs or samplers.names())
        for correction in (corrections or USUAL_CORRECTIONS[head.normalizer])
    ]
    # In turn, so that a busy moment of the machine meets all of them.
    for _ in range(num_draws):
        for measurement in measurements:
            measurement.draw()
    fastest_s = min(min(measurement.times) for measurement in measurements)
    audits = [measurement.finish(fastest_s) for measurement in measurements]
    audits.sort(key=lambda audit: audit.error_at_equal_time)
    recommended, reason = _recommend(audits[0], bench.exact_step_s)
    return Audit(
        tuple(audits),
        bench.exact_step_s,
        num_sampled,
        num_draws,
        len(hidden),
        head.num_classes,
        recommended,
        reason,
    )


def _recommend(best: SamplerAudit, exact_step_s: float) -> tuple[str, str]:
    if exact_step_s <= best.step_s:
        return "exact", (
            f"the exact loss takes {exact_step_s * 1e3:.3g} ms a step, no more than sampling "
            f"({best.step_s * 1e3:.3g} ms with {best.sampler}), and has no error at all."
        )
    return f"{best.sampler}, {best.correction}", (
        f"at equal time its gradient is off by {best.error_at_equal_time:.3g} of the exact one's norm, the "
        f"least of all; a step takes {exact_step_s / best.step_s:.3g} times less time than the exact loss."
    )


class _Bench:
    """One batch, its exact gradient, and the measurement of samplers beside it."""

    def __init__(
        self,
        head: LinearHead,
        hidden_BD: Tensor,
        labels: Labels,
        class_counts_C: Tensor,
        num_sampled: int,
        seed: int,
    ) -> None:
        self.head, self.num_sampled, self.seed = head, num_sampled, seed
        self.hidden_BD = hidden_BD.requires_grad_()
        self.label_ids_P = labels.ids_P if isinstance(labels, SeveralLabels) else labels
        self.classes = Classes(head.num_classes, class_counts_C)
        self.label_sampler = Frequency(self.classes, alpha=1.0)
        generator = torch.Generator().manual_seed(seed)
        self.direction_D = torch.randn(head.dim, generator=generator).to(head.weight)
        options = {"bias": head.bias, "temperature": head.temperature, "score": head.score}
        exact, sampled = LOSSES[head.normalizer]
        self.sampled_loss = partial(sampled, hidden_BD, head.weight, labels, **options)
        exact_loss = partial(exact, hidden_BD, head.weight, labels, **options)
        self.exact = self.gradients(exact_loss())
        self.exact_step_s = min(repeat(lambda: self.gradients(exact_loss()), repeat=EXACT_STEPS, number=1))
        self.query = Query(head.score.scaled(hidden_BD.detach()) / head.temperature, head.scored_rows)
        with torch.no_grad():
            self.log_partition_B = head.log_partition(hidden_BD)

    def gradients(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Of the hidden vectors, and of the class weights along one direction."""
        hidden_BD, weight_CD = torch.autograd.grad(loss, [self.hidden_BD, self.head.weight])
        if not weight_CD.is_sparse:
            return hidden_BD, weight_CD @ self.direction_D
        weight_C = hidden_BD.new_zeros(self.head.num_classes)
        return hidden_BD, weight_C.index_add_(
            0, weight_CD._indices()[0], weight_CD._values() @ self.direction_D
        )

    def propose(
        self, sampler: Sampler, labels_P: Tensor, generator: torch.Generator
    ) -> tuple[Candidates, Callable[[Tensor], Tensor]]:
        ids_S, log_expected_count = sampler.propose(
            labels_P, self.num_sampled, generator=generator, query=self.query
        )
        ids_S = ids_S.sort().values
        counts = log_expected_count(ids_S), log_expected_count(self.label_ids_P)
        return Candidates(ids_S, *counts), log_expected_count

    @torch.no_grad()
    def effective_samples(self, candidates: Candidates) -> float:
        logits_BS = self.head.logits(self.hidden_BD, candidates.class_ids).double()
        log_weights_BS = logits_BS - candidates.log_expected_count
        log_effective_B = 2 * logsumexp(log_weights_BS) - logsumexp(2 * log_weights_BS)
        return float(log_effective_B.exp().mean())

    @torch.no_grad()
    def divergence(self, log_expected_count: Callable[[Tensor], Tensor]) -> float:
        """Σ_j q_j (log q_j − s_bj + log Z_b) in one product with the mean weight row under q."""
        log_counts_C = log_expected_count(torch.arange(self.head.num_classes))
        log_q_C = log_counts_C - logsumexp(log_counts_C)
        q_C = log_q_C.exp()
        mean_logits_B = self.head.mean_logits(self.hidden_BD, q_C)
        entropy = float(torch.special.entr(q_C).sum())
        return float((self.log_partition_B - mean_logits_B).double().mean()) - entropy


class _Measurement:
    """What is added up about one sampler with one correction."""

    def __init__(self, bench: _Bench, spec: Spec | Sampler, correction: Correction) -> None:
        self.bench, self.correction = bench, correction
        self.name = _name(spec)
        self.sampler = build_sampler(spec, bench.classes)
        self.generator = torch.Generator().manual_seed(bench.seed)
        for _ in range(WARM_UP_DRAWS):
            self._learn(len(bench.label_ids_P))
        self.sums = [torch.zeros_like(exact, dtype=torch.float64) for exact in bench.exact]
        self.square_sums = [0.0 for _ in bench.exact]
        self.counts: list[int] = []
        self.times: list[float] = []
        self.effective: list[float] = []
        self.divergences: list[float] = []

    def _other_labels(self, count: int) -> Tensor:
        return self.bench.label_sampler.draw_ids(count, generator=self.generator)

    def _learn(self, num_labels: int) -> None:
        self.bench.propose(self.sampler, self._other_labels(num_labels), self.generator)

    def draw(self) -> None:
        bench, labels_P = self.bench, self.bench.label_ids_P
        if self.sampler.uses_labels:
            labels_P = self._other_labels(len(labels_P))
        elif self.sampler.state():
            # What it remembers should be another draw of labels each time.
            self._learn(bench.num_sampled)
        started = time.perf_counter()
        candidates, log_expected_count = bench.propose(self.sampler, labels_P, self.generator)
        gradients = bench.gradients(bench.sampled_loss(candidates, correction=self.correction).mean())
        self.times.append(time.perf_counter() - started)
        self.counts.append(len(candidates.class_ids))
        for place, gradient in enumerate(gradients):
            self.sums[place] += gradient
            self.square_sums[place] += float(gradient.double().square().sum())
        if len(self.divergences) < DIVERGENCES:
            self.effective.append(bench.effective_samples(candidates))
            self.divergences.append(bench.divergence(log_expected_count))

    def finish(self, fastest_s: float) -> SamplerAudit:
        errors = [
            _relative_errors(total, squares, exact, len(self.counts))
            for total, squares, exact in zip(self.sums, self.square_sums, self.bench.exact, strict=True)
        ]
        squared_bias, variance = (sum(pair) / len(pair) for pair in zip(*errors, strict=True))
        step_s = min(self.times)
        is_softmax = self.bench.head.normalizer == "softmax"
        return SamplerAudit(
            sampler=self.name,
            correction=self.correction,
            num_candidates=mean(self.counts),
            bias=math.sqrt(squared_bias),
            deviation=math.sqrt(variance),
            kl_nats=mean(self.divergences) if is_softmax else None,
            effective_samples=mean(self.effective),
            step_s=step_s,
            error_at_equal_time=math.sqrt(squared_bias + variance * step_s / fastest_s),
            approximation=self.sampler.approximation,
        )


def _name(spec: Spec | Sampler) -> str:
    if isinstance(spec, str):
        return spec
    return type(spec).__name__ if isinstance(spec, Sampler) else " ".join(map(str, spec.values()))


def _relative_errors(total: Tensor, squares: float, exact: Tensor, num_draws: int) -> tuple[float, float]:
    """Squared bias, its noise taken off, and variance, both over the squared norm of the exact gradient."""
    mean = total.double() / num_draws
    variance = max(0.0, squares - num_draws * float(mean.square().sum())) / (num_draws - 1)
    norm = float(exact.double().square().sum())
    squared_bias = max(0.0, float((mean - exact).square().sum()) - variance / num_draws)
    return squared_bias / norm, variance / norm
