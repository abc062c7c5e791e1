"""check_sampled_loss passes the plainest right loss, and catches each known defect by the law it breaks."""

from functools import partial

import pytest
import torch

from widemax.numerics import log_sigmoid, logsumexp
from widemax.testing import ConformanceError, check_sampled_loss


def plain_loss(
    hidden,
    weight,
    labels,
    candidates,
    *,
    bias,
    temperature=1.0,
    correction="conditional",
    kind="softmax",
    late_temperature=False,
    hit_mask=-torch.inf,
    sign=-1,
    positive="as declared",
    once=False,
    refined_weight="corrected",
    promote=True,
    negative_weight=True,
    clip=None,
):
    """The formulas, densely; what follows ``kind`` are known mistakes."""
    ids_S, log_count_S = candidates.class_ids, candidates.log_expected_count
    log_count_B = candidates.label_log_expected_count
    if once:
        ids_S, place = ids_S.unique(return_inverse=True)
        log_count_S = log_count_S.new_zeros(len(ids_S)).scatter(0, place, log_count_S)
    if clip is not None:
        log_count_S = log_count_S.clamp(min=clip)
    late = temperature if late_temperature else 1.0
    logits_BS = (hidden @ weight[ids_S].T + bias[ids_S]) / (temperature / late)
    label_B = ((hidden * weight[labels]).sum(1) + bias[labels]) / (temperature / late)
    dtype = torch.promote_types(logits_BS.dtype, torch.float32) if promote else logits_BS.dtype
    logits_BS, label_B = logits_BS.to(dtype), label_B.to(dtype)
    is_conditional = correction == "conditional"
    if is_conditional or (kind == "softmax" and correction != "none"):
        logits_BS = logits_BS + sign * log_count_S.to(dtype)
    if (is_conditional and positive == "as declared") or positive == "corrected":
        label_B = label_B + sign * log_count_B.to(dtype)
    logits_BS, label_B = logits_BS / late, label_B / late
    hits_BS = labels[:, None] == ids_S
    logits_BS = logits_BS + torch.zeros_like(logits_BS).masked_fill(hits_BS, hit_mask)
    if kind == "sigmoid":
        terms_BS = -log_sigmoid(-logits_BS)
        if correction in ("importance", "refined") and negative_weight:
            terms_BS = terms_BS * (-log_count_S).exp().to(dtype)
        return terms_BS.sum(1) - log_sigmoid(label_B)
    if correction == "refined":
        others_B = logsumexp(logits_BS, axis=1)
        against_B = others_B
        if refined_weight == "uncorrected":
            against_B = logsumexp(logits_BS + log_count_S.to(dtype), axis=1)
        wrong_B = torch.sigmoid(against_B - label_B).detach()
        wrong_B = torch.ones_like(wrong_B) if refined_weight == "none" else wrong_B
        return torch.where(wrong_B == 0, 0, wrong_B * others_B) - wrong_B * label_B
    return logsumexp(torch.cat([label_B[:, None], logits_BS], 1), axis=1) - label_B


def loss(**mistake):
    return partial(plain_loss, **mistake)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_plain_formulas_pass(kind):
    report = check_sampled_loss(loss(kind=kind), kind=kind)
    assert len(report.held) == 8
    assert set(report.skipped) == {"unbiased" if kind == "softmax" else "vanishing bias"}


@pytest.mark.parametrize("correction", ["none", "conditional", "importance", "refined"])
def test_only_the_corrections_offered_are_asked_for(correction):
    asked = set()

    def note(*args, correction, **options):
        asked.add(correction)
        return plain_loss(*args, correction=correction, **options)

    assert "refined" in check_sampled_loss(note, corrections=(correction,)).skipped
    assert asked == {correction}


SOFTMAX_DEFECTS = {
    "temperature after correction": (loss(late_temperature=True), "conditional", "temperature"),
    "the same, importance": (loss(late_temperature=True), "importance", "temperature"),
    "hits left in": (loss(hit_mask=0.0), "conditional", "accidental hits"),
    "hits left in, uncorrected": (loss(hit_mask=0.0), "none", "accidental hits"),
    "mask of 1e-40": (loss(hit_mask=1e-40), "importance", "accidental hits"),
    "wrong sign": (loss(sign=1), "conditional", "optimum"),
    "wrong sign, importance": (loss(sign=1), "importance", "vanishing bias"),
    "positive uncorrected": (loss(positive="never"), "conditional", "optimum"),
    "positive corrected": (loss(positive="corrected"), "importance", "vanishing bias"),
    "duplicates once": (loss(once=True), "conditional", "duplicates"),
    "clipped counts": (loss(clip=-1.0), "conditional", "optimum"),
    "refined by another probability": (loss(refined_weight="uncorrected"), "refined", "vanishing bias"),
    "mask of −1e9 in float16": (loss(hit_mask=-1e9, promote=False), "conditional", "half precision"),
    "refined without its weight": (loss(refined_weight="none"), "refined", "every class once"),
}


@pytest.mark.parametrize(("broken", "correction", "law"), SOFTMAX_DEFECTS.values(), ids=SOFTMAX_DEFECTS)
def test_a_defect_of_a_softmax_is_caught(broken, correction, law):
    with pytest.raises(ConformanceError, match="plain_loss breaks the law") as caught:
        check_sampled_loss(broken, corrections=(correction,))
    assert caught.value.law == law


SIGMOID_DEFECTS = {
    "temperature after correction": (loss(late_temperature=True), "conditional", "temperature"),
    "hits left in": (loss(hit_mask=0.0), "importance", "accidental hits"),
    "mask of 1e-40": (loss(hit_mask=1e-40), "none", "accidental hits"),
    "wrong sign": (loss(sign=1), "conditional", "optimum"),
    "positive uncorrected": (loss(positive="never"), "conditional", "optimum"),
    "negatives unweighted": (loss(negative_weight=False), "importance", "unbiased"),
    "duplicates once": (loss(once=True), "importance", "duplicates"),
}


@pytest.mark.parametrize(("broken", "correction", "law"), SIGMOID_DEFECTS.values(), ids=SIGMOID_DEFECTS)
def test_a_defect_of_a_sigmoid_is_caught(broken, correction, law):
    with pytest.raises(ConformanceError, match="plain_loss breaks the law") as caught:
        check_sampled_loss(partial(broken, kind="sigmoid"), kind="sigmoid", corrections=(correction,))
    assert caught.value.law == law


def test_refined_is_compared_with_importance(monkeypatch):
    monkeypatch.setattr("widemax.testing.sampled_loss.vanishing_bias", lambda *_: "not asked")
    with pytest.raises(ConformanceError) as caught:
        check_sampled_loss(loss(refined_weight="uncorrected"))
    assert caught.value.law == "refined"
