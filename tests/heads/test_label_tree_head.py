"""The label tree against its formula on dense matrices, and what its groups and calibration do."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from widemax.errors import ConfigError
from widemax.heads import LabelTreeHead, SeveralLabels
from widemax.heads import label_tree as module
from widemax.solvers import Separators

F, C, N = 44, 32, 300


def some_rows(seed=0, rows=N):
    """Rows of four topics, of eight neighboring classes each; a class has a feature of its own."""
    rng = np.random.default_rng(seed)
    labels = [np.unique(rng.integers(0, 4) * 8 + rng.integers(0, 8, 3)) for _ in range(rows)]
    features = np.zeros((rows, F), np.float32)
    for row, ids in enumerate(labels):
        features[row, ids] = rng.random(len(ids)) + 0.5
        features[row, C + ids[0] // 8] = 4
        features[row, rng.integers(36, F, 2)] = 0.5
    offsets = torch.tensor([0, *map(len, labels)]).cumsum(0)
    return torch.from_numpy(features), SeveralLabels(torch.from_numpy(np.concatenate(labels)), offsets)


def learned(features, labels, *held_out, **options):
    head = LabelTreeHead(C, F, **options)
    head.seed(0)
    head.partial_fit(features, labels)
    head.finish(*held_out)
    return head


def dense(head, level, num):
    matrix = np.zeros((F, num))
    offsets, ids, weight = (getattr(head, f"{level}{name}").numpy() for name in ("offsets", "ids", "weight"))
    matrix[np.repeat(np.arange(F), np.diff(offsets)), ids] = weight
    return matrix


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("groups", "trees"), [(1, 1), (4, 1), (4, 3)])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_formula(groups, trees, sparse, monkeypatch):
    monkeypatch.setattr(module.budget, "CHUNK_ELEMENTS", 3 * C)
    monkeypatch.setattr(module, "CLASSES_AT_ONCE", 9)
    features, labels = some_rows()
    head = learned(features, labels, groups=groups, trees=trees)
    head.scales.copy_(torch.tensor([[2.0, 0.3], [1.5, -0.2]]))
    head.rarity.fill_(0.1)
    hidden = torch.cat([some_rows(1, 20)[0], torch.zeros(1, F)])
    rows = hidden.double().numpy()
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    rareness = np.log(N / np.bincount(labels.ids_P, minlength=C))
    raised = np.where(rows.any(axis=1, keepdims=True), 0.1 * np.tile(rareness, trees), 0)
    probs = sigmoid(1.5 * (rows @ dense(head, "", trees * C) + raised - 1) - 0.2)
    if groups > 1:
        of_groups = sigmoid(2.0 * (rows @ dense(head, "group_", trees * groups) - 1) + 0.3)
        probs *= of_groups[:, head.group_of_leaf]
    probs = probs.reshape(-1, trees, C).mean(1)
    found = head.log_probs(hidden.to_sparse() if sparse else hidden, torch.arange(C))
    torch.testing.assert_close(found.double(), torch.from_numpy(np.log(probs)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("trees", [1, 3])
def test_odds_of_what_is_all_but_sure(trees):
    head = learned(*some_rows(), groups=4, trees=trees)
    head.scales.copy_(torch.tensor([[30.0, 20.0], [30.0, 20.0]]))
    hidden = some_rows(1, 20)[0]
    rows = hidden.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    levels = zip(("", "group_"), (trees * C, trees * 4), strict=True)
    ours, of_groups = (np.logaddexp(0, 10 - 30 * (rows @ dense(head, *level))) for level in levels)
    lost = (ours + of_groups[:, head.group_of_leaf]).reshape(-1, trees, C)  # -log p of each tree
    odds = np.log(np.exp(-lost).mean(1)) - np.log(-np.expm1(-lost).mean(1))
    assert odds.max() > 20
    torch.testing.assert_close(head.logits(hidden).double(), torch.from_numpy(odds), rtol=1e-5, atol=1e-4)


def test_trees_have_other_groups():
    head = learned(*some_rows(), groups=8)
    assert head.num_trees == 3
    of_trees_TC = head.group_of_leaf.view(3, C)
    together_TCC = of_trees_TC[:, :, None] == of_trees_TC[:, None]
    assert len(together_TCC.unique(dim=0)) == 3
    with pytest.raises(ConfigError, match="3 trees of one group are alike"):
        LabelTreeHead(C, F, groups=1, trees=3)


def test_groups_are_of_similar_classes_and_separated_from_the_rows_they_share(monkeypatch):
    monkeypatch.setattr(module, "WITHIN_GROUPS", module.Effort(40, 0.1))
    features, labels = some_rows()
    head = learned(features, labels, groups=4, trees=1)
    group_of_class = head.group_of_leaf.numpy()
    topics = [set(group_of_class[start : start + 8].tolist()) for start in range(0, C, 8)]
    assert sorted(map(len, topics)) == [1, 1, 1, 1]
    assert len(set.union(*topics)) == 4

    # A class of the group is separated as by a solver that sees only rows of the group.
    own = np.zeros((N, C), bool)
    own[tuple(labels.pairs())] = True
    in_group = group_of_class == group_of_class[0]
    rows = np.flatnonzero(own[:, in_group].any(1))
    lengths = np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    separators = Separators([(csr_array((features.numpy() / lengths)[rows]), own[rows][:, in_group])], seed=0)
    for _ in range(40):
        separators.sweep()
    found = dense(head, "", C)[:, in_group]
    np.testing.assert_allclose(found, separators.weight_FC, atol=0.12)


def test_few_classes_make_one_group_and_many_as_many_as_each_holds():
    assert [LabelTreeHead(num, 2).num_groups for num in (1, 2048, 2049, 10_000)] == [1, 1, 64, 128]


def test_held_out_rows_calibrate():
    features, labels = some_rows()
    held_out, known = some_rows(1, 200)
    plain, fitted = learned(features, labels), learned(features, labels, held_out, known)
    assert fitted(held_out, known) < plain(held_out, known)
    before = fitted.scales.clone()
    fitted.finish()
    assert torch.equal(fitted.scales, before)


@pytest.mark.parametrize("groups", [1, 4])
def test_rare_classes_are_raised_where_held_out_rows_are_ranked_better(groups):
    """A row has one of two frequent classes and a rare one, which alone counts in rows to come."""
    rng = np.random.default_rng(0)
    rare, frequent, rows = np.arange(N) % (C - 2) + 2, rng.integers(0, 2, N), np.arange(N)
    features = rng.random((N, F), dtype=np.float32) / 4
    features[rows, frequent] = 2
    features[rows, rare] = 2
    to_come = features.copy()
    to_come[rows, rare] = 2.5
    features, to_come = torch.from_numpy(features), torch.from_numpy(to_come)
    both = SeveralLabels(torch.from_numpy(np.stack([frequent, rare], 1).ravel()), 2 * torch.arange(N + 1))
    only_rare = SeveralLabels(torch.from_numpy(rare), torch.arange(N + 1))
    assert learned(features, both, groups=groups).rarity == 0
    assert learned(features, both, features, both, groups=groups).rarity == 0  # they are found as it is
    head = learned(features, both, to_come, only_rare, groups=groups)
    rarity = head.rarity.clone()
    assert rarity > 0
    head.finish()
    assert head.rarity == rarity

    def hits():
        return (head.topk(to_come, 1).class_ids[:, 0].numpy() == rare).mean()

    raised = hits()
    head.rarity.zero_()
    assert raised > hits()


def test_how_rare_a_class_is_counts_held_out_rows_too():
    """Else classes of few rows would seem rarer just where a held-out row has them."""
    features, labels = some_rows()
    held_out, known = some_rows(1, 60)
    unlearned = labels.ids_P.bincount(minlength=C).argmin()
    rows = torch.tensor([row for row in range(N) if unlearned not in labels.take(torch.tensor([row])).ids_P])
    features, labels = features[rows], labels.take(rows)
    head = learned(features, labels, held_out, known)
    counts_C = torch.cat([labels.ids_P, known.ids_P]).bincount(minlength=C)
    expected_C = -(counts_C / (len(rows) + 60)).log()
    expected_C[unlearned] = 0
    torch.testing.assert_close(head.rareness_C, expected_C)
    head.partial_fit(held_out, known)
    head.finish()
    torch.testing.assert_close(head.rareness_C, -(counts_C / (len(rows) + 60)).log())


def test_it_learns_what_stands_in_one_row_and_merges_parts(monkeypatch):
    monkeypatch.setattr(module, "WITHIN_GROUPS", module.Effort(20, 0.1))  # rows of a topic are nearly alike
    features, labels = some_rows()
    rows = torch.arange(N)
    parts = [LabelTreeHead(C, F, groups=4) for _ in range(2)]
    for part, which in zip(parts, (rows[:100], rows[100:]), strict=True):
        part.seed(0)
        part.partial_fit(features[which], labels.take(which))
    parts[0].merge(parts[1])
    parts[0].finish()
    whole = learned(features, labels, groups=4)
    assert all(torch.equal(parts[0].state_dict()[name], value) for name, value in whole.state_dict().items())

    hidden, known = some_rows(1, 100)
    first = whole.topk(hidden, 1).class_ids[:, 0].tolist()
    hits = [best in known.take(torch.tensor([row])).ids_P for row, best in enumerate(first)]
    assert np.mean(hits) > 0.95
