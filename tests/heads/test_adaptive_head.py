"""The adaptive softmax, against torch's and against its formula."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy import special

from widemax.classes import Classes
from widemax.errors import ConfigError, LabelError, OptionError
from widemax.heads import heads
from widemax.heads.adaptive import AdaptiveHead
from widemax.heads.cutoffs import CLUSTER_OVERHEAD, MAX_CLUSTERS, best_cutoffs
from widemax.kernels import budget

B, C, D = 9, 30, 8
CUTOFFS = (5, 12)
LABELS = torch.tensor([0, 4, 5, 11, 12, 29, 29, 7, 3])


def some_hidden():
    return torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["plain", "tiled"])
def path(request, monkeypatch):
    if request.param == "tiled":
        monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)


def torch_head(head, cutoffs=CUTOFFS):
    """torch's adaptive softmax with the same weights."""
    peer = torch.nn.AdaptiveLogSoftmaxWithLoss(D, C, cutoffs, div_value=2.0, head_bias=True).double()
    with torch.no_grad():
        peer.head.weight.copy_(head.weight)
        peer.head.bias.copy_(head.bias)
        for (project, classes), narrow, weight in zip(
            peer.tail, head.tail_projections, head.tail_weights, strict=True
        ):
            project.weight.copy_(narrow)
            classes.weight.copy_(weight)
    return peer


def build(**options):
    torch.manual_seed(0)
    return AdaptiveHead(C, D, cutoffs=CUTOFFS, div_value=2.0, **options).double()


def same_gradients(head, peer):
    pairs = [(head.weight, peer.head.weight), (head.bias, peer.head.bias)]
    for (project, classes), narrow, weight in zip(
        peer.tail, head.tail_projections, head.tail_weights, strict=True
    ):
        pairs += [(narrow, project.weight), (weight, classes.weight)]
    return all(torch.allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14) for ours, theirs in pairs)


def test_equals_torch(path):
    head = build(tail_bias=False)
    torch.nn.init.normal_(head.bias)
    peer = torch_head(head)
    ours, theirs = some_hidden().requires_grad_(), some_hidden().requires_grad_()
    loss = head(ours, LABELS)
    expected = peer(theirs, LABELS)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(-head(ours, LABELS, reduction="none"), expected.output, rtol=1e-12, atol=0)
    every = head.log_probs(ours, torch.arange(C))
    torch.testing.assert_close(every, peer.log_prob(theirs), rtol=1e-12, atol=0)
    loss.backward()
    expected.loss.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)
    assert same_gradients(head, peer)
    # Another batch has other gradients.
    peer.zero_grad()
    peer(theirs, LABELS.flip(0)).loss.backward()
    assert not same_gradients(head, peer)


def test_the_same_whatever_the_ids(path):
    """Renaming the classes renames the answers, as clusters follow the counts."""
    torch.manual_seed(3)
    counts, new_id = torch.arange(C, 0, -1) ** 2, torch.randperm(C)
    options = {"cutoffs": CUTOFFS, "div_value": 2.0}
    torch.manual_seed(0)
    head = AdaptiveHead(Classes(C, counts), D, **options).double()
    torch.manual_seed(0)
    renamed = AdaptiveHead(Classes(C, counts[new_id.argsort()]), D, **options).double()
    # Within a cluster classes stand by id, so the weights move along.
    rows = [renamed.place_of_class[new_id[start:end]] - start for start, end in ((0, 5), (5, 12), (12, 30))]
    with torch.no_grad():
        for before, after, row in (
            (head.weight[:5].clone(), renamed.weight, rows[0]),
            (head.tail_weights[0].clone(), renamed.tail_weights[0], rows[1]),
            (head.tail_weights[1].clone(), renamed.tail_weights[1], rows[2]),
        ):
            after[row] = before
    hidden = some_hidden()
    torch.testing.assert_close(renamed(hidden, new_id[LABELS]), head(hidden, LABELS))
    torch.testing.assert_close(
        renamed.log_probs(hidden, new_id), head.log_probs(hidden, torch.arange(C)), rtol=1e-12, atol=0
    )
    assert not torch.allclose(renamed(hidden, LABELS), head(hidden, LABELS))


def test_the_formula_with_tail_biases(path):
    head, hidden = build(), some_hidden()
    for bias in (head.bias, *head.tail_biases):
        torch.nn.init.normal_(bias)
    h = hidden.numpy()
    first = special.log_softmax(h @ head.weight.detach().numpy().T + head.bias.detach().numpy(), axis=1)
    parts = [first[:, :5]]
    for i in range(2):
        narrow = h @ head.tail_projections[i].detach().numpy().T
        logits = narrow @ head.tail_weights[i].detach().numpy().T + head.tail_biases[i].detach().numpy()
        parts.append(first[:, [5 + i]] + special.log_softmax(logits, axis=1))
    expected = np.concatenate(parts, 1)
    np.testing.assert_allclose(head.log_probs(hidden, torch.arange(C)), expected, rtol=1e-12)
    loss_B = head(hidden, LABELS, reduction="none").detach()
    np.testing.assert_allclose(loss_B, -expected[np.arange(B), LABELS], rtol=1e-12)


def test_a_cluster_no_label_is_in_has_a_gradient_of_zeros():
    """Distributed training waits for the gradient of every parameter."""
    head = build()
    head(some_hidden()[:2], torch.tensor([0, 7])).backward()
    assert head.tail_weights[0].grad.any()
    assert not head.tail_weights[1].grad.any()
    assert not head.tail_projections[1].grad.any()


def test_narrow_clusters_keep_one_dimension():
    head = AdaptiveHead(10_000, 8, cutoffs=(10, 100, 1000), div_value=4.0)
    assert [weight.shape[1] for weight in head.tail_weights] == [2, 1, 1]


@pytest.mark.parametrize("cutoffs", [(12, 5), (5, 5), (5, 30), (31,)])
def test_cutoffs_must_ascend_below_the_classes(cutoffs):
    with pytest.raises(ConfigError, match=r"cutoffs must ascend within \[1, 29\]; got"):
        AdaptiveHead(C, D, cutoffs=cutoffs)


def test_options_come_from_a_config():
    assert heads.options("adaptive").complete({"cutoffs": [5, 12]})["cutoffs"] == (5, 12)
    assert heads.options("adaptive").complete({})["cutoffs"] == "auto"
    with pytest.raises(ConfigError, match="div_value"):
        heads.options("adaptive").complete({"div_value": 0})
    with pytest.raises(ConfigError, match="cutoffs"):
        heads.options("adaptive").complete({"cutoffs": [0, 4]})


def expected_cost(counts, dim, cutoffs):
    """Multiply-adds a row, as the docstring says."""
    ends = [*cutoffs, len(counts)]
    cost = dim * ends[0]
    for start, end in pairwise(ends):
        share = counts[start:end].sum() / counts.sum()
        cost += dim * (1 + share * (end - start)) + CLUSTER_OVERHEAD
    return cost


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dim", [16, 40_000, 10**6])
def test_auto_cutoffs_cost_least(power, dim):
    counts = np.arange(1.0, 19) ** -power
    best = best_cutoffs(counts, dim)
    costs = {
        cutoffs: expected_cost(counts, dim, cutoffs)
        for size in range(MAX_CLUSTERS + 1)
        for cutoffs in combinations(range(1, 18), size)
    }
    assert costs[best] == pytest.approx(min(costs.values()), rel=1e-12)
    assert max(costs.values()) > 1.05 * costs[best]


def test_auto_cutoffs_follow_the_counts():
    steep = AdaptiveHead(Classes(20_000, (1e9 / torch.arange(1, 20_001) ** 2.0).long()), 64)
    zipf = AdaptiveHead(20_000, 64)
    assert 0 < steep.cutoffs[0] < zipf.cutoffs[0]
    assert AdaptiveHead(1, 4).cutoffs == ()


def test_rows_are_ignored_by_leaving_them_out():
    with pytest.raises(OptionError, match=r"ignore_index.*head\(hidden\[kept\], labels\[kept\]\)"):
        AdaptiveHead(C, D, cutoffs=CUTOFFS, ignore_index=-100)
    with pytest.raises(LabelError, match=r"got -100 at row 0.*head\(hidden\[kept\], labels\[kept\]\)"):
        AdaptiveHead(C, D, cutoffs=CUTOFFS)(torch.ones(1, D), torch.tensor([-100]))


def test_vectors_of_classes_are_what_hidden_vectors_are_compared_with():
    """Within a cluster, log-probabilities differ by the product with the difference of vectors."""
    order = torch.randperm(C, generator=torch.Generator().manual_seed(4))
    counts = (1000 // (order + 1)).long()
    head = AdaptiveHead(Classes(C, counts), D, cutoffs=CUTOFFS, div_value=2.0, bias=False, tail_bias=False)
    head = head.double()
    hidden = some_hidden()
    vectors_CD = head.embed(torch.arange(C))
    log_probs_BC = head.log_probs(hidden, torch.arange(C))
    place_of_class = counts.argsort(descending=True, stable=True).argsort()
    for first, end in pairwise((0, *CUTOFFS, C)):
        members = ((place_of_class >= first) & (place_of_class < end)).nonzero().squeeze(1)
        differences = log_probs_BC[:, members] - log_probs_BC[:, members[:1]]
        expected = hidden @ (vectors_CD[members] - vectors_CD[members[:1]]).T
        torch.testing.assert_close(differences, expected)


def test_vectors_come_in_the_shape_asked_for_and_carry_gradients():
    head = AdaptiveHead(C, D, cutoffs=CUTOFFS).double()
    ids = torch.tensor([[0, 29, 5], [12, 0, 4]])
    assert head.embed(ids).shape == (2, 3, D)
    for row, id_ in enumerate(ids.flatten().tolist()):
        torch.testing.assert_close(head.embed(ids).flatten(0, 1)[row], head.embed(torch.tensor([id_]))[0])
    head.embed(ids).sum().backward()
    assert head.weight.grad[0].eq(2.0).all()  # asked for twice
    assert head.tail_weights[0].grad[0].ne(0).any()
    assert head.tail_projections[1].grad.ne(0).any()
    assert head.weight.grad[5:].eq(0).all()  # the rows of clusters are no class
