"""What every head made of several softmaxes answers, against brute force in float64."""

import copy
import math

import numpy as np
import pytest
import torch

from widemax.artifact.weights import read_head, write_head
from widemax.classes import Classes
from widemax.errors import ConfigError, LabelError
from widemax.heads import SeveralLabels, heads, normalized, tree, two_level
from widemax.heads.dense import answer_rows, best_by_id
from widemax.heads.labels import no_pairs
from widemax.kernels import Pairs, budget

B, C, D = 7, 43, 3
COUNTS = (300 / torch.arange(1, C + 1)).long()[torch.randperm(C, generator=torch.Generator().manual_seed(9))]
OPTIONS = {
    "adaptive": {"cutoffs": (9, 20), "div_value": 1.5},
    "tree": {},
    "mixture_of_softmaxes": {"num_components": 3},
    "two_level": {},
}
# Parameters that make the logits of a softmax inside; the others shape hidden vectors.
LOGIT_PARAMETERS = {
    "adaptive": ("weight", "bias", "tail_weights", "tail_biases"),
    "tree": ("weight", "bias"),
    "mixture_of_softmaxes": ("weight", "bias", "mixture_weight"),
    "two_level": ("weight", "bias", "cluster_weight", "cluster_bias"),
}


@pytest.fixture(params=OPTIONS, ids=str)
def name(request):
    return request.param


@pytest.fixture(params=["searched", "dense"])
def way(request, monkeypatch):
    """Top k by search alone, or over all classes alone."""
    part = 1.0 if request.param == "searched" else 0.0
    monkeypatch.setattr(tree, "SEARCHED_PART", part)
    monkeypatch.setattr(two_level, "SEARCHED_PART", part)
    return request.param


def build(name, num_classes=C, counts=COUNTS, **options):
    torch.manual_seed(0)
    options = OPTIONS[name] | options
    if name == "adaptive" and num_classes < 21:
        options |= {"cutoffs": tuple(range(1, num_classes))[:2]}
    head = heads[name](Classes(num_classes, counts if num_classes == C else None), D, **options)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.double()


def some_hidden(rows=B):
    return torch.randn(rows, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def all_log_probs(head, hidden):
    return head.log_probs(hidden, torch.arange(head.num_classes)).numpy()


def stable_order(log_probs):
    return np.argsort(-log_probs, axis=1, kind="stable")


def sums_to_one(log_probs):
    return np.allclose(np.exp(log_probs).sum(1), 1, rtol=1e-12, atol=0)


@pytest.mark.parametrize("num_classes", [1, 2, 3, 10, C])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_probabilities_sum_to_one(name, num_classes, temperature):
    head, hidden = build(name, num_classes), some_hidden()
    head.calibration_temperature.fill_(temperature)
    assert sums_to_one(all_log_probs(head, hidden))
    head.calibration_temperature.fill_(1.0)
    # Dividing log-probabilities instead of the logits inside is no distribution.
    assert sums_to_one(all_log_probs(head, hidden) / 0.3) == (num_classes == 1)


@pytest.mark.parametrize("ids", [torch.tensor([42, 0, 0]), torch.arange(2 * B).view(B, 2)])
def test_some_classes_are_answered_as_among_all(name, ids, monkeypatch):
    head, hidden = build(name), some_hidden()
    expected = np.take_along_axis(all_log_probs(head, hidden), ids.expand(B, ids.shape[-1]).numpy(), 1)
    monkeypatch.setattr(normalized, "PAIRS_AT_ONCE", 4)
    for classes_per_label in (0, C):
        head.classes_per_label = classes_per_label
        np.testing.assert_allclose(head.log_probs(hidden, ids), expected, rtol=1e-12)
        np.testing.assert_allclose(head.logits(hidden, ids).detach(), expected, rtol=1e-12)
    assert head.log_partition(hidden).tolist() == [0] * B
    np.testing.assert_array_equal(head.logits(hidden).detach(), all_log_probs(head, hidden))


def test_loss_is_the_mean_over_a_rows_labels(name):
    head, hidden = build(name), some_hidden(4)
    log_probs = all_log_probs(head, hidden)
    labels = torch.tensor([5, 42, 5, 0])
    one = head(hidden, labels, reduction="none").detach()
    np.testing.assert_allclose(one, -log_probs[np.arange(4), labels], rtol=1e-12)
    several = SeveralLabels(torch.tensor([4, 42, 0, 0, 5, 6]), torch.tensor([0, 2, 3, 3, 6]))
    rows = ([4, 42], [0], [], [0, 5, 6])
    expected = [-log_probs[row, ids].sum() / max(len(ids), 1) for row, ids in enumerate(rows)]
    loss_B = head(hidden, several, reduction="none").detach()
    np.testing.assert_allclose(loss_B, expected, rtol=1e-12)
    summed = [-log_probs[row, ids].sum() for row, ids in enumerate(rows)]
    assert not np.allclose(loss_B, summed, rtol=1e-3)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5])
    weighted = head(hidden, several, sample_weight=weight)
    torch.testing.assert_close(weighted, (loss_B * weight).sum() / weight.sum())
    torch.testing.assert_close(head(hidden, several, reduction="sum"), loss_B.sum())


def slope(head, hidden, labels, direction, step=1e-6):
    """Central difference of the loss along a direction in all parameters."""
    values = []
    for sign in (1, -1):
        moved = copy.deepcopy(head)
        with torch.no_grad():
            for parameter, by in zip(moved.parameters(), direction, strict=True):
                parameter += sign * step * by
        values.append(moved(hidden, labels).item())
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("several", [False, True])
def test_gradient(name, several):
    head, hidden = build(name), some_hidden().requires_grad_()
    labels = torch.tensor([0, 42, 3, 3, 7, 20, 41])
    if several:
        labels = SeveralLabels(labels, torch.tensor([0, 2, 2, 3, 3, 5, 6, 7]))
    direction = [torch.randn_like(parameter) for parameter in head.parameters()]
    head(hidden, labels).backward()
    along = sum(
        (parameter.grad.to_dense() * by).sum().item()
        for parameter, by in zip(head.parameters(), direction, strict=True)
        if parameter.grad is not None
    )
    truth = slope(head, hidden, labels, direction)
    assert along == pytest.approx(truth, rel=1e-6)
    assert 1.001 * along != pytest.approx(truth, rel=1e-6)
    assert torch.autograd.gradcheck(lambda h: head(h, labels, reduction="none"), hidden)


def test_sparse_gradients_are_coalesced(name):
    head = build(name)
    head(some_hidden(), torch.arange(B)).backward()
    layouts = {parameter.grad.layout for parameter in head.parameters() if parameter.grad is not None}
    assert (torch.sparse_coo in layouts) == (name in ("tree", "two_level"))
    assert all(
        parameter.grad.is_coalesced()
        for parameter in head.parameters()
        if parameter.grad is not None and parameter.grad.is_sparse
    )


@pytest.mark.parametrize("k", [1, 5, C, C + 1])
def test_topk_is_a_stable_sort(name, way, k):
    head, hidden = build(name), some_hidden().round()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(parameter.sign())
        hidden[0] = 0
        head.bias.zero_()
    best, answers = head.topk(hidden, k), head.answer(hidden, torch.arange(B), k=k)
    log_probs = all_log_probs(head, hidden)
    assert len(np.unique(log_probs[0])) < C
    expected = stable_order(log_probs)[:, :k]
    np.testing.assert_array_equal(best.class_ids, expected)
    np.testing.assert_array_equal(best.log_probs, np.take_along_axis(log_probs, expected, 1))
    np.testing.assert_array_equal(answers.topk.class_ids, expected)
    assert torch.equal(best.logits, best.log_probs)


@pytest.mark.parametrize("name", ["tree", "mixture_of_softmaxes", "two_level"], indirect=True)
def test_all_classes_equal_are_ranked_by_id(name, way):
    head, hidden = build(name, 16, None), some_hidden()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    assert head.topk(hidden, 5).class_ids.tolist() == [[0, 1, 2, 3, 4]] * B
    assert head.answer(hidden, torch.arange(B), k=1).label_ranks.tolist() == list(range(1, B + 1))


def test_excluded_classes_are_not_ranked_unless_they_are_the_label(name, way):
    head, hidden = build(name), some_hidden(2)
    order = stable_order(all_log_probs(head, hidden))
    exclude = SeveralLabels(torch.tensor([order[0, 0], -1, order[0, 1]]), torch.tensor([0, 3, 3]))
    assert head.topk(hidden, 2, exclude=exclude).class_ids.tolist() == [
        order[0, 2:4].tolist(),
        order[1, :2].tolist(),
    ]
    labels = torch.tensor([order[0, 1], order[1, 3]])
    answers = head.answer(hidden, labels, k=2, exclude=exclude)
    # Excluding classes from the ranking leaves the probabilities alone.
    torch.testing.assert_close(answers.square_sum, head.answer(hidden, labels, k=2).square_sum)
    assert answers.topk.class_ids[0].tolist() == order[0, 1:3].tolist()
    assert answers.label_ranks.tolist() == [1, 4]
    everything = head.topk(hidden, C, exclude=exclude)
    assert everything.logits[0, -2:].tolist() == [-math.inf] * 2
    assert everything.class_ids[0, -2:].tolist() == sorted(order[0, :2].tolist())
    np.testing.assert_array_equal(everything.class_ids[0, :-2], order[0, 2:])


def test_several_labels_are_answered_one_by_one(name):
    head, hidden = build(name), some_hidden(3)
    labels = SeveralLabels(torch.tensor([3, 30, -1, 8]), torch.tensor([0, 3, 3, 4]))
    answers = head.answer(hidden, labels, k=1)
    log_probs = all_log_probs(head, hidden)
    rank_of = np.argsort(stable_order(log_probs), axis=1) + 1
    assert answers.label_ranks.tolist() == [rank_of[0, 3], rank_of[0, 30], 0, rank_of[2, 8]]
    expected = [log_probs[0, 3], log_probs[0, 30], math.nan, log_probs[2, 8]]
    np.testing.assert_allclose(answers.label_log_probs, expected, rtol=1e-12)
    np.testing.assert_allclose(answers.label_logits, expected, rtol=1e-12)
    assert answers.log_partition.tolist() == [0, 0, 0]
    np.testing.assert_allclose(answers.square_sum, (np.exp(log_probs) ** 2).sum(1), rtol=1e-12)
    np.testing.assert_allclose(answers.square_sum, np.exp(2 * log_probs).sum(1), rtol=1e-12)


def test_answers_do_not_depend_on_the_chunks(name, way, monkeypatch):
    head, hidden = build(name), some_hidden()
    exclude = SeveralLabels(torch.arange(B), torch.arange(B + 1))
    whole, best = head.answer(hidden, torch.arange(B), k=4), head.topk(hidden, 4, exclude=exclude)
    monkeypatch.setattr(budget, "HELD_ELEMENTS", 2 * C)
    monkeypatch.setattr(normalized, "SEARCHED_ROWS", 2)
    parts, parts_best = head.answer(hidden, torch.arange(B), k=4), head.topk(hidden, 4, exclude=exclude)
    torch.testing.assert_close(parts.topk.log_probs, whole.topk.log_probs)
    assert torch.equal(parts.label_ranks, whole.label_ranks)
    assert torch.equal(parts_best.class_ids, best.class_ids)


def test_calibration_divides_the_logits_inside_and_leaves_training_alone(name):
    head, hidden, labels = build(name), some_hidden(), torch.arange(B)
    before = head(hidden, labels)
    plain = all_log_probs(head, hidden)
    head.calibration_temperature.fill_(4.0)
    assert head(hidden, labels) == before
    divided = copy.deepcopy(head)
    divided.calibration_temperature.fill_(1.0)
    with torch.no_grad():
        for key, parameter in divided.named_parameters():
            if key.split(".")[0] in LOGIT_PARAMETERS[name]:
                parameter /= 4
    expected = all_log_probs(divided, hidden)
    np.testing.assert_allclose(all_log_probs(head, hidden), expected, rtol=1e-12)
    assert not np.allclose(plain / 4, expected, rtol=1e-2)
    answers = head.answer(hidden, labels, k=C)
    np.testing.assert_allclose(answers.label_log_probs, expected[labels, labels], rtol=1e-12)
    np.testing.assert_allclose(head.topk(hidden, C).log_probs, -np.sort(-expected), rtol=1e-12)
    head.classes_per_label = 0
    np.testing.assert_allclose(head.log_probs(hidden, labels[:2]), expected[:, :2], rtol=1e-12)


def test_first_biases_predict_the_class_frequencies(name):
    torch.manual_seed(0)
    head = heads[name](Classes(C, COUNTS, 1000), D, **OPTIONS[name])
    probs_C = head.log_probs(torch.zeros(1, D), torch.arange(C)).exp()[0]
    expected_C = (COUNTS + 1) / (COUNTS.sum() + C)
    torch.testing.assert_close(probs_C, expected_C)
    assert not torch.allclose(probs_C, COUNTS / COUNTS.sum(), rtol=1e-3)
    assert heads[name](Classes(C, COUNTS), D, **OPTIONS[name], bias=False).bias is None


@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_few_classes(name, way, num_classes):
    head, hidden = build(name, num_classes), some_hidden()
    labels = torch.arange(B) % num_classes
    head(hidden, labels).backward()
    answers, best = head.answer(hidden, labels, k=9), head.topk(hidden, 9)
    assert best.class_ids.shape == (B, num_classes)
    assert torch.equal(answers.topk.class_ids, best.class_ids)
    np.testing.assert_allclose(best.log_probs.exp().sum(1), 1)


def test_empty_batch(name, way):
    head, hidden = build(name), torch.zeros(0, D, dtype=torch.float64)
    labels = torch.zeros(0, dtype=torch.int64)
    value = head(hidden, labels)
    value.backward()
    assert value == 0
    assert head.answer(hidden, labels, k=3).topk.class_ids.shape == (0, 3)
    assert head.topk(hidden, 3).log_probs.shape == (0, 3)
    assert head.log_probs(hidden, torch.arange(2)).shape == (0, 2)


def test_extreme_logits_stay_finite(name):
    head, hidden = build(name).float(), some_hidden().float().requires_grad_()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter *= 1e3
    value = head(hidden, torch.arange(B), reduction="none")
    value.sum().backward()
    assert value.isfinite().all()
    assert hidden.grad.isfinite().all()
    assert all(p.grad.to_dense().isfinite().all() for p in head.parameters() if p.grad is not None)
    assert head.topk(hidden, 3).log_probs.isfinite().all()


def test_labels_out_of_range_are_refused(name):
    head, hidden = build(name), some_hidden(2)
    with pytest.raises(LabelError, match="got 43 at row 1"):
        head.answer(hidden, torch.tensor([-1, 43]), k=1)
    with pytest.raises(LabelError, match="got -1 at row 0"):
        head(hidden, torch.tensor([-1, 3]))
    with pytest.raises(LabelError, match="got 43 at row 0"):
        head.topk(hidden, 1, exclude=SeveralLabels(torch.tensor([43]), torch.tensor([0, 1, 1])))


def test_only_cross_entropy_is_offered(name):
    assert heads.options(name).complete({"loss": "cross_entropy"})["loss"] == build(name).loss
    with pytest.raises(ConfigError, match="loss"):
        heads.options(name).complete({"loss": "binary_cross_entropy"})
    assert build(name).normalizer == "softmax"


def test_a_saved_head_answers_the_same(name, tmp_path):
    head, hidden = build(name).float(), some_hidden().float()
    write_head(tmp_path, head)
    again = build(name, counts=COUNTS.flip(0)).float()
    torch.nn.init.zeros_(again.weight)
    assert not torch.allclose(
        again.log_probs(hidden, torch.arange(C)), head.log_probs(hidden, torch.arange(C))
    )
    read_head(tmp_path, again)
    assert torch.equal(again.topk(hidden, C).log_probs, head.topk(hidden, C).log_probs)
    assert torch.equal(again.topk(hidden, C).class_ids, head.topk(hidden, C).class_ids)
    labels = torch.arange(B)
    assert torch.equal(again(hidden, labels), head(hidden, labels))


def test_randomness_is_seeded(name):
    first, second = build(name), build(name)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    with torch.device("meta"):
        assert heads[name](Classes(C, COUNTS.cpu()), D, **OPTIONS[name]).calibration_temperature.is_meta


def test_answers_from_any_log_probabilities():
    log_probs = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    labels = Pairs(torch.tensor([0, 0, 1, 1]), torch.tensor([2, 3, 3, -1]))
    excluded = Pairs(torch.tensor([1]), torch.tensor([0]))
    answers = answer_rows(
        lambda h: log_probs[h[:, 0].long()],
        torch.tensor([[0.0], [1.0]]),
        labels,
        excluded,
        k=3,
        rows_at_once=1,
    )
    assert answers.topk.class_ids.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert answers.label_ranks.tolist() == [2, 3, 3, 0]
    assert answers.label_log_probs[:3].tolist() == [3, 2, 0]
    assert answers.label_log_probs[3].isnan()
    nothing = no_pairs(log_probs.device)
    assert answer_rows(
        lambda h: log_probs, log_probs, nothing, nothing, k=0, rows_at_once=9
    ).topk.class_ids.shape == (2, 0)


def test_equal_values_are_kept_by_class_id():
    values, ids = torch.tensor([[2.0, 1.0, 2.0, 2.0]]), torch.tensor([[8, 1, 3, 5]])
    assert best_by_id(values, ids, 2)[1].tolist() == [[3, 5]]
    # The order of arrival is not the order of ids.
    assert ids.gather(1, values.argsort(dim=1, descending=True, stable=True))[:, :2].tolist() == [[8, 3]]
