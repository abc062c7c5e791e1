"""The audit finds the bias, the spread and the cost it is there to find."""

import pytest
import torch

from widemax.classes import Classes
from widemax.errors import UsageError
from widemax.heads import ExactHead, SampledHead, SeveralLabels
from widemax.samplers import Proposal, Sampler, samplers
from widemax.testing.audit import audit_samplers

B, C, D = 12, 60, 4
COUNTS = (600 / torch.arange(1, C + 1)).long()


def build(loss="cross_entropy", **options):
    torch.manual_seed(0)
    return ExactHead(Classes(C, COUNTS), D, loss=loss, **options)


def some_hidden():
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1))


LABELS = torch.multinomial(COUNTS.double(), B, generator=torch.Generator().manual_seed(2))
SEVERAL = SeveralLabels(torch.cat([LABELS, LABELS + 1]).view(2, B).T.flatten(), torch.arange(0, 2 * B + 1, 2))


class Everything(Sampler):
    """Every class exactly once."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        ids = torch.arange(self.num_classes)
        return Proposal(ids, lambda ids: torch.zeros(ids.shape, dtype=torch.float64))


class WrongCounts(Everything):
    """The first half only, stated as everything."""

    def propose(self, labels, num_sampled, *, generator, query=None):
        ids, statement = super().propose(labels, num_sampled, generator=generator)
        return Proposal(ids[: self.num_classes // 2], statement)


def audit(head, labels=LABELS, **options):
    options = {"num_sampled": 20, "num_draws": 32} | options
    return audit_samplers(head, some_hidden(), labels, COUNTS, **options)


@pytest.mark.parametrize("score", ["dot", "cosine"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one", "several"])
def test_all_classes_have_no_error_and_missing_ones_do(loss, score, labels):
    head = build(loss, score=score, temperature=0.5)
    rows = audit(head, labels, specs=[Everything(C), WrongCounts(C)], corrections=["importance"]).rows
    assert rows[0].bias == pytest.approx(0, abs=1e-5)
    assert rows[0].deviation == pytest.approx(0, abs=1e-3)
    assert rows[0].num_candidates == C
    assert rows[1].bias > 0.02


def test_divergence_is_that_of_the_definition():
    head = build()
    row = audit(head, specs=["uniform"], corrections=["conditional"]).rows[0]
    log_probs_BC = head.log_probs(some_hidden(), torch.arange(C)).double()
    expected = (-torch.log(torch.tensor(C)) - log_probs_BC).mean(1).mean()
    assert row.kl_nats == pytest.approx(expected.item(), rel=1e-5)


def test_without_correction_the_bias_shows():
    rows = audit(build(), specs=["log_uniform"], corrections=["none", "importance"], num_draws=200).rows
    bias = {row.correction: row.bias for row in rows}
    assert bias["none"] > 2 * bias["importance"]


def test_every_registered_sampler_is_measured_and_the_best_recommended():
    result = audit(SampledHead(Classes(C, COUNTS), D, num_sampled=5), num_draws=4)
    assert {row.sampler for row in result.rows} >= set(samplers)
    assert len(result.rows) == 2 * len(samplers.names())
    errors = [row.error_at_equal_time for row in result.rows]
    assert errors == sorted(errors)
    best = result.rows[0]
    assert result.recommended in ("exact", f"{best.sampler}, {best.correction}")
    assert (result.exact_step_s <= best.step_s) == (result.recommended == "exact")
    assert result.to_dict()["rows"][0]["sampler"] == best.sampler


def test_the_seed_decides_all_but_the_time():
    one, other = (audit(build(), specs=["in_batch", "frequency"], num_draws=4) for _ in range(2))
    facts = [
        {(row.sampler, row.correction, row.bias, row.deviation) for row in result.rows}
        for result in (one, other)
    ]
    assert facts[0] == facts[1]


def test_one_draw_shows_no_spread():
    with pytest.raises(UsageError, match="at least 2"):
        audit(build(), num_draws=1)
