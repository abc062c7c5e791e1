"""The hierarchical softmax, its trees, and the search for the best classes."""

import heapq
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.classes import Classes
from widemax.errors import ShapeError
from widemax.heads import SeveralLabels
from widemax.heads.labels import no_pairs
from widemax.heads.tree import TreeHead
from widemax.heads.tree_search import search_tree
from widemax.heads.trees import balanced_tree, huffman_tree, kmeans_order, level_starts, node_masses
from widemax.kernels import Pairs

B, D = 5, 4
NOTHING = no_pairs(torch.device("cpu"))


def paths(children):
    """Each class to the (node, side) decisions that lead to it, found by walking down from the root."""
    num_classes, found, open_nodes = len(children) + 1, {}, [(0, ())]
    if num_classes == 1:
        return {0: ()}
    while open_nodes:
        node, path = open_nodes.pop()
        for side, code in enumerate(np.asarray(children)[node].tolist()):
            below = (*path, (node, side))
            if code < num_classes:
                assert code not in found
                found[code] = below
            else:
                open_nodes.append((code - num_classes, below))
    return found


def mean_depth(children, counts):
    return sum(counts[c] * len(path) for c, path in paths(children).items())


def least_mean_depth(counts):
    """What Huffman's algorithm reaches: the sum of all merged weights."""
    heap, total = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def is_by_level(children):
    """Whether the inner children, read in order, are numbered one after the other."""
    inner = children[children > len(children)] - len(children) - 1
    return inner.tolist() == list(range(1, len(children)))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_huffman_tree_is_shortest(counts):
    children = huffman_tree(np.array(counts))
    assert sorted(paths(children)) == list(range(len(counts)))
    assert is_by_level(children)
    assert mean_depth(children, counts) == least_mean_depth(counts)


def test_a_balanced_tree_is_not_the_shortest():
    counts = [100, 1, 1, 1]
    assert mean_depth(balanced_tree(np.arange(4)), counts) > least_mean_depth(counts)
    assert mean_depth(huffman_tree(np.array(counts)), counts) == least_mean_depth(counts)


def test_classes_never_seen_share_a_short_path():
    depths = [len(path) for path in paths(huffman_tree(np.zeros(1000, np.int64))).values()]
    assert max(depths) == 10


@given(st.integers(1, 70))
def test_balanced_tree_is_shallow_and_keeps_the_order(num_classes):
    order = np.random.default_rng(num_classes).permutation(num_classes)
    children = balanced_tree(order)
    found = paths(children)
    assert sorted(found) == list(range(num_classes))
    assert is_by_level(children)
    assert max(map(len, found.values())) == math.ceil(math.log2(num_classes))
    sides = {c: tuple(side for _, side in path) for c, path in found.items()}
    assert sorted(range(num_classes), key=sides.__getitem__) == order.tolist()


def test_levels_and_masses():
    children = huffman_tree(np.array([8, 4, 2, 1, 1]))
    starts = level_starts(children)
    assert starts == [0, 1, 2, 3, 4]
    masses = node_masses(children, np.array([8.0, 4, 2, 1, 1]))
    assert masses.sum(1).tolist() == [16, 8, 4, 2]


def split_cost(vectors, order):
    """Squared distances to the centers of the two halves of an order."""
    halves = np.array_split(vectors[order], [len(order) // 2])
    return sum(((half - half.mean(0)) ** 2).sum() for half in halves)


def test_kmeans_order_keeps_similar_classes_together():
    rng = np.random.default_rng(0)
    group = rng.permutation(64) % 4
    vectors = np.array([[9, 0, 0], [9, 3, 0], [-9, 0, 0], [-9, 0, 3]])[group] + 0.1 * rng.standard_normal(
        (64, 3)
    )
    order = kmeans_order(vectors)
    assert sorted(order.tolist()) == list(range(64))
    quarters = [set(group[quarter].tolist()) for quarter in np.split(order, 4)]
    assert all(len(quarter) == 1 for quarter in quarters)
    assert split_cost(vectors, order) < 0.2 * split_cost(vectors, np.arange(64))
    assert kmeans_order(vectors, seed=5).tolist() == kmeans_order(vectors, seed=5).tolist()
    assert kmeans_order(np.ones((3, 2))).tolist() == [0, 1, 2]


def build(num_classes=50, scale=1.0, **options):
    torch.manual_seed(0)
    counts = (1000 / torch.arange(1, num_classes + 1)).long()
    head = TreeHead(Classes(num_classes, counts), D, **options).double()
    with torch.no_grad():
        head.weight.normal_(std=scale / D**0.5)
        if head.bias is not None:
            head.bias.normal_()
    return head


def some_hidden(rows=B):
    return torch.randn(rows, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def expected_log_probs(head, hidden):
    bias = torch.zeros(len(head.weight)) if head.bias is None else head.bias
    scores = (hidden @ head.weight.T + bias).detach().numpy()
    expected = np.zeros((len(hidden), head.num_classes))
    for c, path in paths(head.tree).items():
        for node, side in path:
            expected[:, c] -= np.logaddexp(0, -scores[:, node] if side else scores[:, node])
    return expected


@pytest.mark.parametrize("tree", ["huffman", "balanced"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_formula(tree, bias):
    head, hidden = build(tree=tree, bias=bias), some_hidden()
    expected = expected_log_probs(head, hidden)
    np.testing.assert_allclose(head.log_probs(hidden, torch.arange(50)), expected, rtol=1e-12)
    labels = torch.tensor([0, 49, 3, 3, 17])
    np.testing.assert_allclose(head.log_probs(hidden, labels[:2]), expected[:, labels[:2]], rtol=1e-12)
    loss_B = head(hidden, labels, reduction="none").detach()
    np.testing.assert_allclose(loss_B, -expected[np.arange(B), labels], rtol=1e-12)
    # With the sides exchanged every class has another probability.
    head.weight.data.neg_()
    assert not np.allclose(expected_log_probs(head, hidden), expected, rtol=1e-2)


def test_a_label_touches_the_nodes_above_it_only():
    head = build(tree="balanced")
    head(some_hidden(2), torch.tensor([7, 31])).backward()
    above = {node for label in (7, 31) for node, _ in paths(head.tree)[label]}
    assert head.weight.grad.indices()[0].tolist() == sorted(above)
    assert head.bias.grad.indices()[0].tolist() == sorted(above)
    assert len(above) <= 2 * 6


def test_similar_vectors_make_a_tree():
    vectors = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    head = TreeHead.from_vectors(vectors, D, torch.arange(20)).double()
    assert torch.equal(head.tree, torch.from_numpy(balanced_tree(kmeans_order(vectors.numpy()))))
    np.testing.assert_allclose(head.log_probs(some_hidden(), torch.arange(20)).exp().sum(1), 1)
    with pytest.raises(ShapeError, match=r"class_vectors must be \[C, E\]"):
        TreeHead.from_vectors(vectors[0], D)


def test_the_tree_is_part_of_the_state():
    head = TreeHead.from_vectors(torch.randn(20, 3), D).double()
    torch.nn.init.normal_(head.weight)
    other = TreeHead(20, D, tree="huffman").double()
    assert not torch.equal(other.tree, head.tree)
    other.load_state_dict(head.state_dict())
    hidden = some_hidden()
    assert torch.equal(other.log_probs(hidden, torch.arange(20)), head.log_probs(hidden, torch.arange(20)))
    assert torch.equal(other(hidden, torch.arange(B)), head(hidden, torch.arange(B)))


def best_first(head, hidden_row, k):
    """The plain search with a heap, for one row; also how many nodes it expands."""
    scores = (hidden_row @ head.weight.T + head.bias).detach()
    sides = torch.nn.functional.logsigmoid(torch.stack([-scores, scores], 1)).tolist()
    heap, best, expanded, tree = [(0.0, 0)], [], 0, head.tree.tolist()
    while heap and (len(best) < k or -heap[0][0] >= best[k - 1][0]):
        bound, node = heapq.heappop(heap)
        expanded += 1
        for side, code in enumerate(tree[node]):
            reached = -bound + sides[node][side]
            if code < head.num_classes:
                best = sorted([*best, (reached, code)], key=lambda pair: (-pair[0], pair[1]))[:k]
            else:
                heapq.heappush(heap, (-reached, code - head.num_classes))
    return [code for _, code in best], expanded


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("tree", ["huffman", "balanced"])
def test_search_is_brute_force_with_fewer_nodes(tree, scale):
    head, hidden = build(400, scale, tree=tree), some_hidden(20)
    brute = np.argsort(-expected_log_probs(head, hidden), axis=1, kind="stable")
    for k in (1, 7):
        narrow = head.search(hidden, NOTHING, k=k, limit=10**9)
        np.testing.assert_array_equal(narrow.class_ids, brute[:, :k])
        assert narrow.is_proven_B.all()
        assert narrow.num_expanded_B.float().mean() < 399 / 2


def test_one_node_at_a_time_expands_what_a_heap_does():
    head, hidden = build(200, 2.0), some_hidden()

    def decide(rows_A, nodes_AW):
        scores = torch.einsum("ad,awd->aw", hidden[rows_A], head.weight[nodes_AW]) + head.bias[nodes_AW]
        return torch.nn.functional.logsigmoid(torch.stack([-scores, scores], -1))

    found = search_tree(
        decide, head.tree, NOTHING, num_rows=B, k=3, limit=10**9, dtype=torch.float64, width=1
    )
    for row in range(B):
        ids, expanded = best_first(head, hidden[row], 3)
        assert found.class_ids[row].tolist() == ids
        assert found.num_expanded_B[row] == expanded < 199


def test_greedy_descent_is_not_a_search():
    """The more probable half need not hold the most probable class."""
    head = TreeHead(4, 1, tree="balanced", bias=False).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-0.4], [0.0], [5.0]]))
    hidden = torch.ones(1, 1, dtype=torch.float64)
    node, code = 0, 4
    while code >= 4:
        node = code - 4
        code = int(head.tree[node, int(head.weight[node] > 0)])
    assert code in (0, 1)
    assert head.search(hidden, NOTHING, k=1, limit=9).class_ids.tolist() == [[3]]


@pytest.mark.parametrize("num_classes", [2, 3, 16, 21])
@pytest.mark.parametrize("tree", ["huffman", "balanced"])
def test_search_among_equal_weights(num_classes, tree):
    head = build(num_classes, 0.0, tree=tree)
    head.bias.data.zero_()
    hidden = some_hidden()
    brute = np.argsort(-head.log_probs(hidden, torch.arange(num_classes)).numpy(), axis=1, kind="stable")
    for k in (1, 2, num_classes):
        found = head.search(hidden, NOTHING, k=k, limit=10**9)
        np.testing.assert_array_equal(found.class_ids, brute[:, :k])


def test_an_equal_class_of_smaller_id_is_not_missed():
    """The first class found has id 1; the root's other side leads to class 0 with the same probability."""
    children, even = torch.tensor([[1, 4], [0, 2]]), torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()
    found = search_tree(lambda rows, nodes: even[nodes], children, NOTHING, num_rows=1, k=1, limit=9)
    assert found.class_ids.tolist() == [[0]]
    assert found.num_expanded_B.tolist() == [2]


def test_a_class_that_cannot_be_reached_is_listed_last():
    children, odds = torch.tensor([[0, 4], [1, 2]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]]).log()
    found = search_tree(lambda rows, nodes: odds[nodes], children, NOTHING, num_rows=1, k=3, limit=9)
    assert found.class_ids.tolist() == [[0, 1, 2]]
    assert found.log_probs.tolist() == [[0, -math.inf, -math.inf]]


def test_a_search_may_be_given_up_and_is_answered_all_the_same():
    head, hidden = build(400, 0.01), some_hidden(30)
    brute = np.argsort(-expected_log_probs(head, hidden), axis=1, kind="stable")[:, :5]
    found = head.search(hidden, NOTHING, k=5, limit=25)
    assert not found.is_proven_B.all()
    assert (found.num_expanded_B <= 25 + 16).all()
    np.testing.assert_array_equal(head.topk(hidden, 5).class_ids, brute)
    exclude = SeveralLabels(torch.from_numpy(brute[:, 0].copy()), torch.arange(31))
    np.testing.assert_array_equal(head.topk(hidden, 4, exclude=exclude).class_ids, brute[:, 1:])


def test_excluded_classes_are_passed_over():
    head, hidden = build(100, 2.0), some_hidden()
    brute = np.argsort(-expected_log_probs(head, hidden), axis=1, kind="stable")
    excluded = Pairs(torch.arange(B), torch.from_numpy(brute[:, 1].copy()))
    found = head.search(hidden, excluded, k=2, limit=10**9)
    np.testing.assert_array_equal(found.class_ids, brute[:, [0, 2]])
