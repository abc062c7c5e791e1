"""What every head with class weights answers, against brute force in float64."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import special

from widemax.classes import Classes
from widemax.errors import LabelError
from widemax.heads import ExactHead, SampledHead, SeveralLabels, heads

pytestmark = pytest.mark.usefixtures("kernels")

B, C, D = 7, 40, 3
KINDS = {"exact": ExactHead, "sampled": SampledHead}


@pytest.fixture(params=KINDS, ids=str)
def kind(request):
    return KINDS[request.param]


def build(kind, num_classes=C, dim=D, **options):
    torch.manual_seed(0)
    options |= {"sampler": "uniform"} if kind is SampledHead else {}
    head = kind(num_classes, dim, **options)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    return head


def some_hidden(rows=B):
    return 2 * torch.randn(rows, D, generator=torch.Generator().manual_seed(1))


def exact_logits(head, hidden, temperature=1.0):
    bias = 0 if head.bias is None else head.bias.detach().double().numpy()
    return (hidden.double().numpy() @ head.weight.detach().double().numpy().T + bias) / temperature


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_logits_and_log_partition(kind, temperature, bias):
    head, hidden = build(kind, temperature=temperature, bias=bias), some_hidden()
    expected = exact_logits(head, hidden, temperature)
    np.testing.assert_allclose(head.logits(hidden).detach(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(head.log_partition(hidden), special.logsumexp(expected, 1), rtol=1e-6)
    ids = torch.tensor([39, 0, 0])
    np.testing.assert_allclose(head.logits(hidden, ids).detach(), expected[:, ids], rtol=1e-5, atol=1e-5)
    own = torch.arange(2 * B).view(B, 2)
    own_expected = np.take_along_axis(expected, own.numpy(), 1)
    np.testing.assert_allclose(head.logits(hidden, own).detach(), own_expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        head.log_probs(hidden, own),
        own_expected - special.logsumexp(expected, 1)[:, None],
        rtol=1e-5,
        atol=1e-5,
    )


def test_probabilities_sum_to_one(kind):
    head, hidden = build(kind), some_hidden()
    np.testing.assert_allclose(head.log_probs(hidden, torch.arange(C)).exp().sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(head.topk(hidden, 10 * C).log_probs.exp().sum(1), 1, rtol=1e-5)


def test_yes_or_no_probabilities(kind):
    head, hidden = build(kind, loss="binary_cross_entropy"), some_hidden()
    expected = special.log_expit(exact_logits(head, hidden))
    np.testing.assert_allclose(head.log_probs(hidden, torch.arange(C)), expected, rtol=1e-4, atol=1e-6)
    best = head.topk(hidden, 4)
    np.testing.assert_allclose(best.log_probs, -np.sort(-expected)[:, :4], rtol=1e-4, atol=1e-6)
    answers = head.answer(hidden, torch.arange(B), k=1)
    np.testing.assert_allclose(answers.label_log_probs, np.diag(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, C, C + 1])
def test_topk_is_a_stable_sort(kind, k):
    head, hidden = build(kind), some_hidden().round()
    with torch.no_grad():
        head.weight.round_()
        head.bias.zero_()
    logits = exact_logits(head, hidden)
    assert len(np.unique(logits[0])) < C
    best = head.topk(hidden, k)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(best.class_ids, expected)
    np.testing.assert_array_equal(best.logits, np.take_along_axis(logits, expected, 1))


def test_excluded_classes_are_not_ranked_unless_they_are_the_label(kind):
    head, hidden = build(kind), some_hidden(2)
    order = np.argsort(-exact_logits(head, hidden), axis=1)
    # Row 0 may not name its best two, of which the second is the label, nor an item it does not know.
    exclude = SeveralLabels(torch.tensor([order[0, 0], -1, order[0, 1]]), torch.tensor([0, 3, 3]))
    labels = torch.tensor([order[0, 1], order[1, 3]])
    assert head.topk(hidden, 2, exclude=exclude).class_ids.tolist() == [
        order[0, 2:4].tolist(),
        order[1, :2].tolist(),
    ]
    answers = head.answer(hidden, labels, k=2, exclude=exclude)
    assert answers.topk.class_ids[0].tolist() == order[0, 1:3].tolist()
    assert answers.label_ranks.tolist() == [1, 4]
    everything = head.topk(hidden, C, exclude=exclude)
    assert everything.logits[0, -2:].tolist() == [-math.inf] * 2
    torch.testing.assert_close(answers.log_partition, head.log_partition(hidden))


def test_one_pass_answers_as_the_separate_questions(kind):
    head, hidden = build(kind), some_hidden()
    labels = torch.arange(B) * 5
    answers = head.answer(hidden, labels, k=6)
    best = head.topk(hidden, 6)
    for one, other in (
        (answers.topk.class_ids, best.class_ids),
        (answers.topk.logits, best.logits),
    ):
        assert torch.equal(one, other)
    torch.testing.assert_close(answers.topk.log_probs, best.log_probs)
    torch.testing.assert_close(answers.log_partition, head.log_partition(hidden))
    square_sum_B = head.log_probs(hidden, torch.arange(C)).exp().square().sum(1)
    torch.testing.assert_close(answers.square_sum, square_sum_B)
    torch.testing.assert_close(answers.label_logits, head.logits(hidden, labels[:, None])[:, 0])
    torch.testing.assert_close(answers.label_log_probs, head.log_probs(hidden, labels[:, None])[:, 0])
    rank_of = np.argsort(np.argsort(-exact_logits(head, hidden), axis=1), axis=1) + 1
    assert answers.label_ranks.tolist() == rank_of[np.arange(B), labels].tolist()


def test_several_labels_are_answered_one_by_one(kind):
    head, hidden = build(kind), some_hidden(3)
    labels = SeveralLabels(torch.tensor([3, 30, -1, 8]), torch.tensor([0, 3, 3, 4]))
    answers = head.answer(hidden, labels, k=1)
    rank_of = np.argsort(np.argsort(-exact_logits(head, hidden), axis=1), axis=1) + 1
    assert answers.label_ranks.tolist() == [rank_of[0, 3], rank_of[0, 30], 0, rank_of[2, 8]]
    assert answers.label_log_probs.isnan().tolist() == [False, False, True, False]


def test_labels_out_of_range_are_refused(kind):
    head, hidden = build(kind), some_hidden(2)
    with pytest.raises(LabelError, match="got 40 at row 1"):
        head.answer(hidden, torch.tensor([-1, 40]), k=1)
    with pytest.raises(LabelError, match="got -1 at row 0"):
        head(hidden, torch.tensor([-1, 3]))


def test_calibration_divides_answers_and_leaves_training_alone(kind):
    head, hidden = build(kind, temperature=0.5), some_hidden()
    labels = torch.arange(B)
    head.seed(3)
    before = head(hidden, labels)
    head.calibration_temperature.fill_(4.0)
    head.seed(3)
    assert head(hidden, labels) == before
    expected = exact_logits(head, hidden, 2.0)
    np.testing.assert_allclose(head.logits(hidden).detach(), expected, rtol=1e-5, atol=1e-5)
    answers = head.answer(hidden, labels, k=C)
    np.testing.assert_allclose(answers.topk.logits, -np.sort(-expected), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(answers.log_partition, special.logsumexp(expected, 1), rtol=1e-6)
    assert "calibration_temperature" in head.state_dict()


@pytest.mark.parametrize("num_classes", [1, 2])
def test_few_classes(kind, num_classes):
    head, hidden = build(kind, num_classes), some_hidden()
    labels = torch.arange(B) % num_classes
    head(hidden, labels).backward()
    answers = head.answer(hidden, labels, k=5)
    assert answers.topk.class_ids.shape == (B, num_classes)
    np.testing.assert_allclose(answers.topk.log_probs.exp().sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_empty_batch(kind, loss):
    head, hidden = build(kind, loss=loss), torch.zeros(0, D)
    labels = torch.zeros(0, dtype=torch.int64)
    value = head(hidden, labels)
    value.backward()
    assert value == 0
    answers = head.answer(hidden, labels, k=3)
    assert answers.topk.class_ids.shape == (0, 3)
    assert answers.label_ranks.shape == (0,)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_extreme_logits_stay_finite(kind, loss):
    head, hidden = build(kind, loss=loss), some_hidden().requires_grad_()
    with torch.no_grad():
        head.weight *= 1e4
    value = head(hidden, torch.arange(B), reduction="none")
    value.sum().backward()
    assert value.isfinite().all()
    assert hidden.grad.isfinite().all()
    assert head.weight.grad.to_dense().isfinite().all()
    assert head.topk(hidden, 3).log_probs.isfinite().all()


def test_first_biases_predict_the_class_frequencies(kind):
    counts = torch.tensor([6, 0, 2])
    extra = {"sampler": "frequency"} if kind is SampledHead else {}
    head = kind(Classes(3, counts), 4, temperature=0.5, **extra)
    np.testing.assert_allclose(
        head.log_probs(torch.zeros(1, 4), torch.arange(3)).exp()[0], [7 / 11, 1 / 11, 3 / 11]
    )
    head = kind(Classes(3, counts, 9), 4, loss="binary_cross_entropy", **extra)
    np.testing.assert_allclose(
        head.log_probs(torch.zeros(1, 4), torch.arange(3)).exp()[0], [7 / 11, 1 / 11, 3 / 11], rtol=1e-6
    )
    assert (
        kind(3, 4, loss="binary_cross_entropy", **(extra and {"sampler": "uniform"})).bias.tolist() == [0] * 3
    )


def test_first_weights_have_variance_one_over_dim(kind):
    weight = build(kind, 2000, 50).weight
    assert weight.std().item() == pytest.approx(1 / math.sqrt(50), rel=0.02)


def test_randomness_is_seeded_and_its_state_can_be_kept(kind):
    head = build(kind)
    again = build(kind)
    assert torch.equal(head.weight, again.weight)
    assert torch.equal(head.generator.get_state(), again.generator.get_state())
    assert torch.equal(copy.deepcopy(head).generator.get_state(), head.generator.get_state())


def test_nothing_is_drawn_without_memory(kind, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "normal_", None)  # for which torch would load its compiler
    with torch.device("meta"):
        assert kind(C, D, **({"sampler": "uniform"} if kind is SampledHead else {})).weight.is_meta


def test_registry_knows_the_members():
    assert KINDS.items() <= {name: heads[name] for name in heads}.items()
    assert heads.options("exact").complete({})["loss"] == "cross_entropy"
    assert set(heads.options("sampled").complete({"num_sampled": 5})) == {
        *("loss", "temperature", "bias", "score", "num_sampled", "sampler", "correction", "sparse")
    }
