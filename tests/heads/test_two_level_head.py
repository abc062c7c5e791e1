"""The softmax over clusters and within them, against its formula; and its size."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from widemax.classes import Classes
from widemax.heads import heads
from widemax.heads.labels import no_pairs
from widemax.heads.two_level import TwoLevelHead
from widemax.kernels import Pairs

B, C, D = 6, 23, 4
COUNTS = torch.randint(0, 100, (C,), generator=torch.Generator().manual_seed(2))
NOTHING = no_pairs(torch.device("cpu"))


def build(num_classes=C, counts=None, scale=1.0, **options):
    torch.manual_seed(0)
    head = TwoLevelHead(Classes(num_classes, counts), D, **options)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return head.double()


def some_hidden(rows=B):
    return torch.randn(rows, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def clusters_of(counts, size):
    """The classes of each cluster: the most frequent ones, equal counts by id, then the next ones."""
    order = np.argsort(-np.asarray(counts), kind="stable")
    return [np.sort(order[start : start + size]) for start in range(0, len(order), size)]


def expected_log_probs(head, hidden, clusters):
    weight, bias, cluster_weight, cluster_bias = (
        None if parameter is None else parameter.detach().numpy()
        for parameter in (head.weight, head.bias, head.cluster_weight, head.cluster_bias)
    )
    h = hidden.numpy()
    first = special.log_softmax(h @ cluster_weight.T + (0 if cluster_bias is None else cluster_bias), axis=1)
    expected, start = np.zeros((len(h), head.num_classes)), 0
    for number, ids in enumerate(clusters):
        rows = slice(start, start + len(ids))
        within = special.log_softmax(h @ weight[rows].T + (0 if bias is None else bias[rows]), axis=1)
        expected[:, ids] = first[:, [number]] + within
        start += len(ids)
    return expected


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", ["frequency", "id"])
def test_the_formula(bias, order):
    head, hidden = build(counts=COUNTS, bias=bias, order=order), some_hidden()
    counts = COUNTS if order == "frequency" else torch.zeros(C)
    expected = expected_log_probs(head, hidden, clusters_of(counts, 6))
    np.testing.assert_allclose(head.log_probs(hidden, torch.arange(C)), expected, rtol=1e-12)
    labels = torch.tensor([0, 22, 3, 3, 17, 9])
    loss_B = head(hidden, labels, reduction="none").detach()
    np.testing.assert_allclose(loss_B, -expected[np.arange(B), labels], rtol=1e-12)
    with torch.no_grad():
        np.testing.assert_allclose(head(hidden, labels, reduction="none"), loss_B, rtol=1e-12)
    other = torch.zeros(C) if order == "frequency" else COUNTS
    assert not np.allclose(expected_log_probs(head, hidden, clusters_of(other, 6)), expected, rtol=1e-2)


@pytest.mark.parametrize("num_clusters", [1, 4, 5, 23, 1000])
def test_any_number_of_clusters(num_clusters):
    head, hidden = build(num_clusters=num_clusters), some_hidden()
    assert len(head.cluster_weight) == -(-C // head.cluster_size) <= num_clusters
    expected = expected_log_probs(head, hidden, clusters_of(torch.zeros(C), head.cluster_size))
    np.testing.assert_allclose(head.log_probs(hidden, torch.arange(C)), expected, rtol=1e-12)
    brute = np.argsort(-expected, axis=1, kind="stable")
    found = head.search(hidden, NOTHING, k=4, limit=1000)
    np.testing.assert_array_equal(found.class_ids, brute[:, :4])
    assert found.is_proven_B.all()


def test_about_the_root_of_the_classes():
    head = TwoLevelHead(10_000, 2)
    assert (len(head.cluster_weight), head.cluster_size) == (100, 100)
    assert heads.options("two_level").complete({"num_clusters": 7})["num_clusters"] == 7


def test_a_label_touches_its_cluster_only():
    head = build()
    head(some_hidden(3), torch.tensor([22, 1, 22])).backward()
    touched = [*range(6), *range(18, 23)]
    assert head.weight.grad.indices()[0].tolist() == touched
    assert head.bias.grad.indices()[0].tolist() == touched
    assert head.weight.grad.is_coalesced()
    assert not head.cluster_weight.grad.is_sparse


def test_class_weights_start_at_zero_and_learn():
    torch.manual_seed(0)
    head, hidden, labels = TwoLevelHead(C, D), some_hidden().float(), torch.arange(B)
    assert (head.weight == 0).all()
    before = head(hidden, labels).item()
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    for _ in range(30):
        optimizer.zero_grad()
        head(hidden, labels).backward()
        optimizer.step()
    assert head(hidden, labels).item() < before - 1


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_search_is_brute_force_with_fewer_clusters(scale):
    counts = torch.randint(0, 50, (400,), generator=torch.Generator().manual_seed(4))
    head, hidden = build(400, counts, scale), some_hidden(20)
    brute = np.argsort(-expected_log_probs(head, hidden, clusters_of(counts, 20)), axis=1, kind="stable")
    for k in (1, 7, 30):
        found = head.search(hidden, NOTHING, k=k, limit=1000)
        np.testing.assert_array_equal(found.class_ids, brute[:, :k])
        assert found.num_expanded_B.float().mean() < 20 * 0.9
    assert found.is_proven_B.all()
    # The first cluster alone does not hold them all.
    hasty = head.search(hidden, NOTHING, k=7, limit=1)
    assert not np.array_equal(hasty.class_ids, brute[:, :7])
    assert not hasty.is_proven_B.all()
    np.testing.assert_array_equal(head.topk(hidden, 7).class_ids, brute[:, :7])


def test_equal_classes_of_a_later_cluster_are_not_missed():
    """By count class 0 stands in the last cluster, which is as probable as the first."""
    head = TwoLevelHead(Classes(4, torch.tensor([1, 2, 3, 4])), 1, num_clusters=2).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    found = head.search(torch.ones(1, 1, dtype=torch.float64), NOTHING, k=2, limit=9)
    assert found.class_ids.tolist() == [[0, 1]]
    assert head.class_of_place.tolist() == [2, 3, 0, 1]


def test_a_cluster_as_probable_as_the_best_class_is_opened():
    """Clusters of one class each: that of class 1, which is more frequent, comes first."""
    head = TwoLevelHead(Classes(2, torch.tensor([1, 2])), 1, num_clusters=2).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    found = head.search(torch.ones(1, 1, dtype=torch.float64), NOTHING, k=1, limit=9)
    assert found.class_ids.tolist() == [[0]]
    assert found.num_expanded_B.tolist() == [2]


def test_excluded_classes_are_passed_over():
    head, hidden = build(), some_hidden()
    brute = np.argsort(
        -expected_log_probs(head, hidden, clusters_of(torch.zeros(C), 6)), axis=1, kind="stable"
    )
    excluded = Pairs(torch.arange(B), torch.from_numpy(brute[:, 1].copy()))
    found = head.search(hidden, excluded, k=2, limit=10**9)
    np.testing.assert_array_equal(found.class_ids, brute[:, [0, 2]])


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_more_than_2_to_the_31_parameters():
    num_classes, dim = 2**24 + 3, 129
    before = resident_bytes()
    torch.manual_seed(0)
    head = TwoLevelHead(num_classes, dim)
    assert head.weight.numel() > 2**31
    hidden = torch.randn(2, dim)
    labels = torch.tensor([num_classes - 1, num_classes - 2])
    # The last cluster is not full.
    first, last = num_classes - num_classes % head.cluster_size, num_classes - 1
    assert 0 < last - first < head.cluster_size - 1
    with torch.no_grad():
        head.weight[first:] = torch.randn(last - first + 1, dim)

    def truth():
        clusters = (hidden.double() @ head.cluster_weight.T.double() + head.cluster_bias).log_softmax(1)
        within = (hidden.double() @ head.weight[first:].T.double() + head.bias[first:]).log_softmax(1)
        return (clusters[:, -1:] + within).detach()

    losses = []
    for _ in range(2):
        expected = truth()[[0, 1], labels - first]
        loss_B = head(hidden, labels, reduction="none")
        np.testing.assert_allclose(-loss_B.detach(), expected, rtol=1e-5)
        log_probs = head.log_probs(hidden, labels[:1])[:, 0]
        np.testing.assert_allclose(log_probs, truth()[:, last - first], rtol=1e-5)
        losses.append(loss_B.sum().item())
        loss_B.sum().backward()
        rows = head.weight.grad.indices()[0]
        assert (rows[0].item(), rows[-1].item(), len(rows)) == (first, last, last - first + 1)
        with torch.no_grad():
            head.weight.index_add_(0, rows, head.weight.grad.values(), alpha=-0.05)
            head.bias.index_add_(0, rows, head.bias.grad.values(), alpha=-0.05)
        head.weight.grad = head.bias.grad = None
    assert losses[1] < losses[0] - 0.01
    assert math.isfinite(losses[1])
    assert resident_bytes() - before < 3e9 < head.weight.numel() * 4
