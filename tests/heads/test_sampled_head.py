"""The laws of sampled softmax (1, 3 to 6 of the mathematics), each with a wrong twin that it catches."""

import copy
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import special

from widemax.classes import Classes
from widemax.heads import ExactHead, SampledHead, SeveralLabels
from widemax.heads.scores import CosFace
from widemax.samplers import Frequency, LogUniform, Poisson, Proposal, Sampler, Uniform

B, C, D = 6, 30, 4
COUNTS = (300 / torch.arange(1, C + 1)).long()
ONE = torch.tensor([0, 29, 3, 3, 7, 11])
SEVERAL = SeveralLabels(torch.tensor([0, 4, 29, 3, 3, 2, 9]), torch.tensor([0, 3, 4, 4, 5, 7, 7]))
LABELS = {"one": ONE, "several": SEVERAL}
SAMPLERS = {
    f"{member.__name__} {duplicates}": member(Classes(C, COUNTS), duplicates=duplicates)
    for member in (Uniform, LogUniform, Frequency)
    for duplicates in ("drop", "keep", "redraw")
} | {"Poisson": Poisson(Classes(C, COUNTS))}
LOSSES = ["cross_entropy", "binary_cross_entropy", "multi_positive_softmax"]
CORRECTIONS = ["none", "conditional", "importance", "refined"]


class These(Sampler):
    """The given classes, stated as drawn once each."""

    def __init__(self, ids):
        super().__init__(C)
        self.ids = ids

    def propose(self, labels, num_sampled, *, generator, query=None):
        return Proposal(self.ids, lambda ids: torch.zeros(ids.shape, dtype=torch.float64))


def everything():
    return These(torch.arange(C))


def build(sampler, *, num_sampled=12, **options):
    torch.manual_seed(0)
    head = SampledHead(C, D, sampler=sampler, num_sampled=num_sampled, **options).double()
    torch.nn.init.normal_(head.bias)
    return head


def some_hidden():
    return torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def labels_of_rows(labels):
    pairs = SeveralLabels(labels, torch.arange(B + 1)).pairs() if labels is ONE else labels.pairs()
    return [pairs.ids_P[pairs.rows_P == row].tolist() for row in range(B)]


def reference(head, hidden, labels, *, decoupled=False, late_temperature=False, keep_hits=False):
    """The formulas row by row and class by class; the last two switches are known mistakes."""
    generator = torch.Generator().manual_seed(5)
    candidates = head.sampler.draw(torch.arange(C), head.num_sampled, generator=generator)
    logits_BC = (hidden @ head.weight.T + head.bias).detach().numpy() / head.temperature
    log_count_C = candidates.label_log_expected_count.numpy()
    losses = []
    for logits_C, own in zip(logits_BC, labels_of_rows(labels), strict=True):
        others = [j for j in candidates.class_ids.tolist() if keep_hits or j not in own]
        shift_C = log_count_C / (head.temperature if late_temperature else 1)
        label_C, other_C = logits_C.copy(), logits_C.copy()
        if head.correction == "conditional":
            label_C, other_C = label_C - shift_C, other_C - shift_C
        elif head.normalizer == "softmax" and head.correction != "none":
            other_C = other_C - shift_C
        if head.normalizer == "sigmoid":
            weight_C = np.exp(-log_count_C) if head.correction in ("importance", "refined") else np.ones(C)
            loss = -special.log_expit(label_C[own]).sum()
            loss -= sum(weight_C[j] * special.log_expit(-other_C[j]) for j in others)
        elif not own:
            loss = 0.0
        elif decoupled:
            log_others = special.logsumexp(other_C[others])
            loss = np.mean(np.logaddexp(label_C[own], log_others) - label_C[own])
        else:
            log_others = special.logsumexp(other_C[others])
            log_total = special.logsumexp([*label_C[own], log_others])
            loss = log_total - label_C[own].mean()
            if head.correction == "refined":
                loss = np.exp(log_others - log_total) * log_others
                loss += sum((np.exp(label_C[p] - log_total) - 1 / len(own)) * label_C[p] for p in own)
        losses.append(loss)
    return np.array(losses)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_equals_the_formula(sampler, correction, loss, labels):
    head = build(sampler, correction=correction, loss=loss, temperature=0.5)
    hidden = some_hidden()
    head.seed(5)
    actual = head(hidden, labels, reduction="none").detach().numpy()
    wanted = partial(reference, head, hidden, labels, decoupled=loss == "multi_positive_softmax")
    np.testing.assert_allclose(actual, wanted(), rtol=1e-10, atol=1e-10)
    assert not np.allclose(actual, wanted(keep_hits=True), rtol=1e-6)
    if loss == "cross_entropy" and correction != "none" and not isinstance(sampler, Uniform):
        assert not np.allclose(actual, wanted(late_temperature=True), rtol=1e-6)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_drawing_every_class_gives_the_full_loss_and_gradient(score, correction, loss, labels):
    options = {"loss": loss, "temperature": 0.7, "score": score}
    sampled = build(everything(), correction=correction, **options)
    full = ExactHead(C, D, **options).double()
    full.load_state_dict(sampled.state_dict())
    results = []
    for head in (sampled, full):
        hidden = some_hidden().requires_grad_()
        value = head(hidden, labels)
        value.backward()
        results.append((value, hidden.grad, head.weight.grad.to_dense(), head.bias.grad.to_dense()))
    # The value of "refined" is no likelihood; its gradient is.
    skipped = int(correction == "refined" and loss == "cross_entropy")
    for one, other in list(zip(*results, strict=True))[skipped:]:
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_refined_has_the_gradient_of_importance(sampler, labels):
    gradients = []
    for correction in ("refined", "importance", "conditional"):
        head, hidden = build(sampler, correction=correction), some_hidden().requires_grad_()
        head.seed(5)
        head(hidden, labels).backward()
        gradients.append(hidden.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(gradients[0], gradients[2])


def test_the_bias_of_importance_falls_with_the_number_of_samples():
    """Self-normalized estimates of the full gradient are biased by O(1/S)."""
    sampler, hidden, biases = SAMPLERS["Frequency keep"], some_hidden(), []
    full = ExactHead(C, D).double()
    full.load_state_dict(build(sampler).state_dict())
    full(hidden, ONE).backward()
    for num_sampled in (16, 64):
        head = build(sampler, correction="importance", num_sampled=num_sampled)
        for _ in range(250):
            head(hidden, ONE).backward()
        biases.append((head.bias.grad.to_dense() / 250 - full.bias.grad).abs().sum().item())
    assert biases[0] > 2 * biases[1]


@pytest.mark.parametrize("sampler", [Uniform, LogUniform, Frequency])
@pytest.mark.parametrize("duplicates", ["drop", "keep", "redraw"])
def test_the_mean_gradient_vanishes_at_the_optimum(sampler, duplicates):
    num_classes, batch = 2000, 128
    probs = 1 / torch.arange(1, num_classes + 1, dtype=torch.float64)
    probs /= probs.sum()
    ends = [0, 20, 200, num_classes]

    def bias_gradients(member, correction, num_steps):
        """Mean gradient of head, middle and tail classes in standard errors, at logits = log probs."""
        head = SampledHead(num_classes, 1, num_sampled=300, sampler=member, correction=correction).double()
        head.bias.data = probs.log()
        head.seed(0)
        generator = torch.Generator().manual_seed(1)
        sums = np.zeros((num_steps, 3))
        for step in range(num_steps):
            labels = torch.multinomial(probs, batch, replacement=True, generator=generator)
            head.bias.grad = None
            head(torch.zeros(batch, 1, dtype=torch.float64), labels).backward()
            gradient = head.bias.grad.to_dense()
            sums[step] = [gradient[start:stop].sum() for start, stop in pairwise(ends)]
        return np.abs(sums.mean(0)) / (sums.std(0, ddof=1) / math.sqrt(num_steps))

    counts = (probs * 1e6).long()
    member = sampler(Classes(num_classes, counts), duplicates=duplicates)
    assert bias_gradients(member, "conditional", 50).max() < 4
    if sampler is Uniform:
        # The same count for every class is no correction, so leaving it out does no harm here.
        return
    assert bias_gradients(member, "none", 25).max() > 8
    if duplicates == "drop":

        class UnigramCounts(sampler):
            def propose(self, labels, num_sampled, **options):
                ids_S, _ = super().propose(labels, num_sampled, **options)
                return Proposal(ids_S, lambda ids: math.log(num_sampled) + self.probs(ids).log())

        assert bias_gradients(UnigramCounts(Classes(num_classes, counts)), "conditional", 25).max() > 8


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_yes_or_no_loss_and_gradient_are_unbiased(sampler):
    def estimates(correction, num_draws):
        head = build(sampler, correction=correction, loss="binary_cross_entropy")
        head.seed(2)
        rows = []
        for _ in range(num_draws):
            head.bias.grad = None
            value = head(some_hidden(), SEVERAL)
            value.backward()
            rows.append(np.append(head.bias.grad.to_dense().numpy(), value.item()))
        return np.array(rows)

    full = ExactHead(C, D, loss="binary_cross_entropy").double()
    full.load_state_dict(build(sampler).state_dict())
    value = full(some_hidden(), SEVERAL)
    value.backward()
    expected = np.append(full.bias.grad.numpy(), value.item())

    def z_scores(values):
        return np.abs(values.mean(0) - expected) / (values.std(0, ddof=1) / math.sqrt(len(values)) + 1e-12)

    assert z_scores(estimates("importance", 60)).max() < 4
    assert z_scores(estimates("none", 15)).max() > 8


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_temperature_divides_logits_only(loss):
    warm = build(SAMPLERS["LogUniform drop"], temperature=0.25, loss=loss)
    plain = build(SAMPLERS["LogUniform drop"], loss=loss)
    with torch.no_grad():
        plain.weight.copy_(warm.weight / 0.25)
        plain.bias.copy_(warm.bias / 0.25)
    for head in (warm, plain):
        head.seed(0)
    torch.testing.assert_close(warm(some_hidden(), ONE), plain(some_hidden(), ONE), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_rows_whose_every_candidate_is_a_hit(correction, dtype, loss):
    torch.manual_seed(0)
    head = SampledHead(C, D, sampler=These(torch.tensor([3, 3])), loss=loss, correction=correction)
    head.to(dtype)
    hidden = some_hidden()[:2].to(dtype).requires_grad_()
    loss_B = head(hidden, torch.tensor([3, 5]), reduction="none")
    loss_B.sum().backward()
    assert loss_B.isfinite().all()
    assert hidden.grad.isfinite().all()
    assert head.weight.grad.to_dense().isfinite().all()
    if loss == "cross_entropy":
        # A mask of 1e-40, or any that leaves the hits in, would give log 3.
        assert loss_B[0] == 0
        assert hidden.grad[0].tolist() == [0] * D
        assert correction == "refined" or loss_B[1] > 0


def test_gradients_are_sparse_coalesced_and_equal_to_the_dense_ones():
    head = build(SAMPLERS["Frequency drop"])
    head.seed(5)
    head(some_hidden(), ONE).backward()
    generator = torch.Generator().manual_seed(5)
    candidates = head.sampler.draw(torch.arange(C), head.num_sampled, generator=generator)
    touched = torch.cat([candidates.class_ids, ONE]).unique()
    assert len(touched) < C
    for gradient in (head.weight.grad, head.bias.grad):
        assert gradient.is_sparse
        assert gradient.is_coalesced()
        assert torch.equal(gradient.indices()[0], touched)

    weight, bias = (p.detach().clone().requires_grad_() for p in (head.weight, head.bias))
    training = some_hidden() @ weight.T + bias - candidates.label_log_expected_count
    present_BC = torch.zeros(B, C, dtype=torch.bool)
    present_BC[:, candidates.class_ids] = True
    present_BC[torch.arange(B), ONE] = True
    dense = torch.nn.functional.cross_entropy(training.masked_fill(~present_BC, -torch.inf), ONE)
    dense.backward()
    torch.testing.assert_close(head.weight.grad.to_dense(), weight.grad)
    torch.testing.assert_close(head.bias.grad.to_dense(), bias.grad)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_gradcheck_of_hidden(loss):
    head = build(SAMPLERS["Frequency keep"], loss=loss)

    def value(hidden):
        head.seed(5)
        return head(hidden, SEVERAL, reduction="none")

    assert torch.autograd.gradcheck(value, some_hidden().requires_grad_())


def test_the_seed_decides_the_draw():
    head, hidden = build(SAMPLERS["Uniform drop"]), some_hidden()
    head.seed(1)
    first = head(hidden, ONE)
    state = head.training_state()
    second = head(hidden, ONE)
    assert first != second
    head.load_training_state(state)
    assert head(hidden, ONE) == second
    head.seed(1)
    assert head(hidden, ONE) == first


def test_a_head_says_how_it_was_made():
    frequency = Frequency(Classes(C, COUNTS), alpha=0.5)
    assert repr(build(frequency, loss="cross_entropy")) == (
        f"SampledHead({C} classes, dim {D}, num_sampled=12, sampler=Frequency({C} classes, alpha=0.5))"
    )
    plain = SampledHead(C, D, weight=torch.nn.Parameter(torch.ones(C, D)), sampler="uniform", score=CosFace())
    assert repr(plain) == f"SampledHead({C} classes, dim {D}, score=CosFace(), sampler='uniform')"
    assert repr(copy.deepcopy(plain)) == repr(plain)
