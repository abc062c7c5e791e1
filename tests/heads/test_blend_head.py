"""The blend head against brute force over all classes and a grid of weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from widemax.errors import LabelError, ShapeError
from widemax.heads import BlendHead, ExactHead, SampledHead, SeveralLabels
from widemax.kernels import budget

F, C, B, E = 7, 30, 40, 4


def some_rows(seed=0, rows=B):
    """Sparse features, and one to three labels a row."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.random((rows, F)) * (rng.random((rows, F)) < 0.4)).float()
    labels = [rng.choice(C, rng.integers(1, 4), replace=False).tolist() for _ in range(rows)]
    offsets = torch.tensor([0, *map(len, labels)]).cumsum(0)
    return features, SeveralLabels(torch.tensor([c for row in labels for c in row]), offsets)


def counted(seed=0, weights=(0.7, 0.4), **options):
    torch.manual_seed(seed)
    head = BlendHead(C, F, width=E, **options)
    head.partial_fit(*some_rows(seed))
    head.finish()
    head.weights.copy_(torch.tensor(weights))
    return head


def embedded_rows(head, features):
    """[B, E] the rows to the power that the counts have chosen, times the embeddings."""
    powered = torch.where(features > 0, features ** head.counts.powers[0], 0.0)
    return powered @ head.weight


def log_probs_of_parts(head, features):
    """[B, C] of each part on its own."""
    embedded = embedded_rows(head, features).double()
    cosines = (
        torch.nn.functional.normalize(embedded)
        @ torch.nn.functional.normalize(head.softmax.weight.double()).T
    )
    trained = (cosines + head.softmax.bias.double()) / head.softmax.temperature
    return head.counts.log_probs(features, torch.arange(C)).double(), trained.log_softmax(1).detach()


@pytest.mark.parametrize("sparse", [False, True])
def test_the_formula(sparse):
    head, (features, _) = counted(), some_rows(1)
    head.calibration_temperature.fill_(1.5)
    parts = log_probs_of_parts(head, features)
    expected = ((0.7 * parts[0] + 0.4 * parts[1]) / 1.5).log_softmax(1)
    hidden = features.to_sparse() if sparse else features
    found = head.log_probs(hidden, torch.arange(C))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    answers = head.answer(hidden, torch.arange(B) % C, k=C)
    torch.testing.assert_close(answers.square_sum.double(), expected.exp().square().sum(1))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, C), st.floats(0, 2), st.floats(0.01, 2), st.booleans())
def test_top_k_and_ranks_are_those_of_brute_force(seed, k, counts, softmax, tiled):
    head = counted(seed, (counts, softmax), keep=5)
    (features, labels), (_, exclude) = some_rows(seed + 1), some_rows(seed + 2)
    logits_BC = counts * head.counts.logits(features) + softmax * head.softmax.logits(
        embedded_rows(head, features)
    )
    logits_BC = logits_BC.detach()
    (rows_P, ids_P), excluded = labels.pairs(), exclude.pairs()
    label_logits_P = logits_BC[rows_P, ids_P]
    with pytest.MonkeyPatch.context() as patched:
        if tiled:  # few rows and classes at a time
            patched.setattr(budget, "CHUNK_ELEMENTS", 60)
            patched.setattr(budget, "MOST_ANSWER_ELEMENTS", 64 * 9)
            patched.setattr(budget, "MOST_ROWS", 5)
        found = head.answer(features.to_sparse(), labels, k=k, exclude=exclude)
    logits_BC[tuple(excluded)] = -torch.inf
    logits_BC[rows_P, ids_P] = label_logits_P  # a label is ranked even if it is excluded
    best = logits_BC.sort(descending=True).values[:, :k]
    torch.testing.assert_close(found.topk.logits, best, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits_BC.gather(1, found.topk.class_ids), best, rtol=1e-5, atol=1e-5)
    above, beside = (
        (logits_BC[rows_P] > label_logits_P[:, None] + slack).sum(1) + 1 for slack in (1e-5, -1e-5)
    )
    assert ((above <= found.label_ranks) & (found.label_ranks <= beside)).all()


def nll_of(parts, weights, labels):
    """The mean over rows of their mean over labels."""
    log_probs = sum(weight * part for weight, part in zip(weights, parts, strict=True)).log_softmax(1)
    rows_P, ids_P = labels.pairs()
    of_rows = torch.zeros(len(labels), dtype=torch.float64).index_add(0, rows_P, log_probs[rows_P, ids_P])
    return float(-(of_rows / labels.offsets_B1.diff()).mean())


def ndcg(logits_BC, labels):
    """[B] NDCG of the first 20 places."""
    place_BC = logits_BC.argsort(1, descending=True).argsort(1)
    gains = []
    for row in range(len(labels)):
        own = labels.take(torch.tensor([row])).ids_P
        places = place_BC[row, own].double() + 1
        ideal = (1 / torch.arange(2, 2 + len(own)).log2()).sum()
        gains.append(float((1 / (places[places <= 20] + 1).log2()).sum() / ideal))
    return np.array(gains)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.booleans())
def test_weights_never_make_held_out_rows_less_likely(seed, follows):
    head = counted(seed)
    features, labels = some_rows(seed if follows else seed + 1)
    head.finish(features, labels)
    parts, weights = log_probs_of_parts(head, features), head.weights.tolist()
    nll = nll_of(parts, weights, labels)
    grid = [0.03, 0.1, 0.3, 1, 1.5, 2, 4]
    worth = head.worth
    assert nll == pytest.approx(float(head.nlls[2]), abs=1e-4)
    assert [worth[name].weight for name in ("counts", "softmax")] == weights
    # They are never less likely than by counts alone, and each alone is as likely as at any temperature.
    assert nll <= worth["counts"].nll + 1e-4
    for name, alone in (("counts", lambda u: (u, 0)), ("softmax", lambda v: (0, v))):
        best = min(nll_of(parts, alone(weight), labels) for weight in grid)
        assert worth[name].nll <= best + 1e-4
    # What has a weight beside counts ranks better than these alone, by more than noise.
    blended = sum(w * part for w, part in zip(weights, parts, strict=True))
    gained_B = ndcg(blended, labels) - ndcg(parts[0], labels)
    assert weights[1] == 0 or gained_B.mean() > 1.6 * gained_B.std() / len(gained_B) ** 0.5
    assert f"counts {weights[0]:.3g} (alone {worth['counts'].nll:.3f})" in head.told()


def test_a_part_that_misleads_gets_no_weight_and_leaves_the_answers_of_the_other():
    head, (features, labels) = counted(), some_rows()
    with torch.no_grad():  # what is right is what it finds least
        right = torch.zeros(C, F).index_add(0, labels.ids_P, features[labels.pairs().rows_P])
        head.softmax.weight.copy_(-right @ head.weight)
        head.softmax.bias.zero_()
    head.finish(features, labels)
    assert head.weights[0] > 0
    assert head.weights[1] == 0
    head.counts.calibration_temperature.div_(head.weights[0])
    head.weights[0] = 1
    of_blend, of_counts = (each.answer(features, labels, k=C) for each in (head, head.counts))
    assert torch.equal(of_blend.topk.class_ids, of_counts.topk.class_ids)
    assert torch.equal(of_blend.label_ranks, of_counts.label_ranks)
    torch.testing.assert_close(of_blend.label_log_probs, of_counts.label_log_probs)
    head.weights.copy_(torch.tensor([0.0, 1.0]))
    of_blend = head.answer(features, labels, k=C)
    of_softmax = head.softmax.answer(embedded_rows(head, features), labels, k=C)
    assert torch.equal(of_blend.topk.class_ids, of_softmax.topk.class_ids)
    torch.testing.assert_close(of_blend.label_log_probs, of_softmax.label_log_probs)


def test_biases_take_smaller_steps():
    head = BlendHead(C, F, width=E, temperature=0.2)
    factors = {id(parameter): factor for parameter, factor in head.step_factors()}
    assert factors.keys() == {id(parameter) for parameter in head.parameters()}
    assert factors.pop(id(head.softmax.bias)) == 0.2
    assert {*factors.values()} == {1.0}


@pytest.mark.parametrize("num_sampled", [3, C])
def test_each_label_counts_alike(num_sampled):
    """A row with several labels has the losses of them all, and a row with one the loss of that."""
    head, (features, labels) = counted(num_sampled=num_sampled), some_rows()
    amounts = labels.offsets_B1.diff()
    head.softmax.seed(5)
    of_softmax = head.softmax.row_losses(embedded_rows(head, features), labels)
    head.seed(5)
    torch.testing.assert_close(head(features, labels, reduction="none"), amounts * of_softmax)
    head.softmax.seed(6)
    one = head.softmax.row_losses(embedded_rows(head, features), labels.ids_P[:B])
    head.seed(6)
    torch.testing.assert_close(head(features, labels.ids_P[:B], reduction="none"), one)


def test_unknown_labels_do_not_decide():
    head, (features, labels) = counted(), some_rows(1)
    unknown = SeveralLabels(labels.ids_P.where(labels.pairs().rows_P < 20, -1), labels.offsets_B1)
    head.finish(features, unknown)
    expected = head.weights.clone()
    head.finish(features[:20], labels.take(torch.arange(20)))
    torch.testing.assert_close(head.weights, expected)
    head.finish(features, SeveralLabels(torch.full_like(labels.ids_P, -1), labels.offsets_B1))
    torch.testing.assert_close(head.weights, expected)


def test_many_classes_are_sampled_in_training():
    assert isinstance(BlendHead(80, F, num_sampled=10).softmax, ExactHead)
    head = BlendHead(81, F, num_sampled=10)
    assert isinstance(head.softmax, SampledHead)
    head(some_rows()[0].to_sparse(), some_rows()[1]).backward()
    gradient = head.weight.grad
    assert gradient.is_sparse
    assert gradient.coalesce().indices()[0].tolist() == list(range(F))
    dense = torch.autograd.grad(replayed_loss(head, some_rows()[0]), head.weight)[0]
    again = torch.autograd.grad(replayed_loss(head, some_rows()[0].to_sparse()), head.weight)[0]
    torch.testing.assert_close(again.to_dense(), dense)


def replayed_loss(head, hidden):
    head.seed(3)
    return head(hidden, some_rows()[1])


def test_training_begins_with_the_factors_of_what_was_counted():
    """Labels that follow groups of features are found before any step, and a step is not undone."""
    rng = np.random.default_rng(0)
    group_B = rng.integers(3, size=300)
    hidden = torch.zeros(300, 12)
    hidden[
        torch.arange(300)[:, None], torch.from_numpy(group_B[:, None] * 4 + rng.integers(4, size=(300, 2)))
    ] = 1
    labels = torch.from_numpy(group_B * 3 + rng.integers(3, size=300))
    head = BlendHead(10, 12, width=4)
    never_met = head.softmax.weight[9].clone()
    head.partial_fit(hidden, labels)
    head.begin(hidden, labels)
    assert head.weights.tolist() == [0.5, 0.5]
    assert len(head.counts.weight)
    best = head.softmax.logits(embedded_rows(head, hidden), torch.arange(9)).topk(3).indices
    assert (best // 3 == torch.from_numpy(group_B)[:, None]).all()
    lengths = head.softmax.weight[:9].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(9))
    assert torch.equal(head.softmax.weight[9], never_met)
    with torch.no_grad():
        head.weight += 1
    head(hidden, labels)
    trained = head.weight.clone()
    head.partial_fit(hidden, labels)
    head.finish()
    assert torch.equal(head.weight, trained)


def test_training_goes_on_to_the_same_bits():
    whole, resumed = (BlendHead(C, F, width=E, num_sampled=3) for _ in range(2))
    features, labels = some_rows()
    whole.partial_fit(features, labels)
    resumed.load_state_dict(whole.state_dict())
    resumed.load_training_state(whole.training_state())
    for head in (whole, resumed):
        head(features, labels).backward()
        head.finish(features, labels)
    assert torch.equal(whole.weight.grad, resumed.weight.grad)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    # What has been finished is not made again, and needs no rows.
    made = whole.counts.class_ids
    whole.finish(features, labels)
    assert whole.counts.class_ids is made


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-0.1, 1.0), (torch.nan, 1.0)])
def test_a_state_that_no_head_has_is_found(weights):
    head = counted(weights=weights)
    assert [law for holds, law in head.laws() if not holds] == [
        "weights of its parts that are at least 0, one of them above"
    ]


def test_what_cannot_be_counted_is_refused():
    head, (features, labels) = counted(), some_rows()
    with pytest.raises(ShapeError, match="hidden must be \\[B, 7\\]"):
        head.partial_fit(features[:, 1:], labels)
    with pytest.raises(LabelError, match="30"):
        head.partial_fit(features[:1], torch.tensor([C]))
