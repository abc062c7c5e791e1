"""Classes are added and removed without disturbing the others, nor the optimizer's memory of them."""

import pytest
import torch

from widemax.classes import Classes
from widemax.errors import ConfigError, LabelError, ShapeError
from widemax.heads import ExactHead, SampledHead
from widemax.optim import optimizers
from widemax.samplers import Uniform

C, D, NEW = 12, 4, 3
COUNTS = (100 / torch.arange(1, C + NEW + 1)).long()
LR = {"lazy_adam": 0.01, "momentum": 0.01, "rowwise_adagrad": 0.1}


def build(kind, optimizer_name):
    torch.manual_seed(0)
    head = kind(Classes(C, COUNTS[:C]), D).double()
    optimizer = optimizers[optimizer_name](head.parameters(), lr=LR[optimizer_name])
    return head, optimizer


def steps(head, optimizer, labels, num_steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        hidden = torch.randn(len(labels), D, dtype=torch.float64, generator=generator)
        optimizer.zero_grad()
        head(hidden, labels).backward()
        optimizer.step()


def train_on_some_classes(head, optimizer, class_ids, seed):
    """Gradients that depend on the given rows only, so that other classes make no difference."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        optimizer.zero_grad()
        for parameter in (head.weight, head.bias):
            values = torch.randn(
                len(class_ids), *parameter.shape[1:], dtype=torch.float64, generator=generator
            )
            parameter.grad = torch.sparse_coo_tensor(
                class_ids[None], values, parameter.shape, check_invariants=True
            )
        optimizer.step()


@pytest.mark.parametrize("kind", [ExactHead, SampledHead])
@pytest.mark.parametrize("optimizer_name", LR)
def test_old_classes_train_on_as_if_nothing_had_been_added(kind, optimizer_name):
    class_ids = torch.tensor([0, 5, 11])
    ends = []
    for grows in (True, False):
        head, optimizer = build(kind, optimizer_name)
        steps(head, optimizer, torch.arange(C), 4, seed=1)
        if grows:
            head.extend(NEW, class_counts=COUNTS, optimizer=optimizer)
        train_on_some_classes(head, optimizer, class_ids, seed=2)
        optimizer.catch_up()
        ends.append((head.weight.detach()[:C], head.bias.detach()[:C]))
    for grown, plain in zip(*ends, strict=True):
        assert torch.equal(grown, plain)


@pytest.mark.parametrize("kind", [ExactHead, SampledHead])
@pytest.mark.parametrize("optimizer_name", LR)
def test_the_others_train_on_as_if_nothing_had_been_removed(kind, optimizer_name):
    ends = []
    for shrinks in (True, False):
        head, optimizer = build(kind, optimizer_name)
        steps(head, optimizer, torch.arange(C), 4, seed=1)
        kept = torch.arange(C)
        if shrinks:
            kept = head.remove(torch.tensor([1, 7]), class_counts=COUNTS[: C - 2], optimizer=optimizer)
            assert kept.tolist() == [0, 2, 3, 4, 5, 6, 8, 9, 10, 11]
        place = torch.searchsorted(kept, torch.tensor([0, 5, 11]))
        train_on_some_classes(head, optimizer, place, seed=2)
        optimizer.catch_up()
        stays = kept if not shrinks else torch.arange(C - 2)
        ends.append((head.weight.detach()[stays], head.bias.detach()[stays]))
    others = torch.tensor([j for j in range(C) if j not in (1, 7)])
    assert torch.equal(ends[0][0], ends[1][0][others])
    assert torch.equal(ends[0][1], ends[1][1][others])


@pytest.mark.parametrize("kind", [ExactHead, SampledHead])
def test_new_classes_answer_and_learn(kind):
    head, optimizer = build(kind, "rowwise_adagrad")
    steps(head, optimizer, torch.arange(C), 2, seed=1)
    before = head.log_probs(torch.ones(1, D, dtype=torch.float64), torch.arange(C))
    head.extend(NEW, init="mean", class_counts=COUNTS, optimizer=optimizer)
    assert head.num_classes == C + NEW == len(head.weight)
    assert head.bias[C:].eq(head.bias[:C].min()).all()
    torch.testing.assert_close(head.weight[C:], head.weight[:C].mean(0).expand(NEW, D))
    hidden = torch.ones(2, D, dtype=torch.float64)
    after = head.log_probs(hidden, torch.arange(C + NEW))
    torch.testing.assert_close(after.exp().sum(1), torch.ones(2, dtype=torch.float64))
    assert (after[0, :C] < before[0]).all()
    labels = torch.tensor([C, C + NEW - 1])
    steps(head, optimizer, labels, 20, seed=3)
    for _ in range(30):
        optimizer.zero_grad()
        head(hidden, labels).backward()
        optimizer.step()
    assert set(head.topk(hidden, 2).class_ids[0].tolist()) == set(labels.tolist())


def test_an_optimizer_that_is_not_told_cannot_go_on():
    """The twin that forgets the state: the reason for the argument."""
    head, optimizer = build(ExactHead, "rowwise_adagrad")
    steps(head, optimizer, torch.arange(C), 1, seed=1)
    head.extend(NEW)
    with pytest.raises((RuntimeError, IndexError)):
        steps(head, optimizer, torch.arange(C), 1, seed=2)


def test_given_rows_are_taken_and_wrong_ones_refused():
    head = ExactHead(C, D)
    rows = torch.randn(NEW, D)
    head.extend(NEW, init=rows)
    assert torch.equal(head.weight[C:], rows)
    with pytest.raises(ShapeError, match=r"init must be \[2, 4\]"):
        head.extend(2, init=rows)
    assert head.num_classes == C + NEW


def test_what_cannot_be_removed():
    head = ExactHead(C, D)
    with pytest.raises(LabelError, match="got 12"):
        head.remove(torch.tensor([C]))
    with pytest.raises(ConfigError, match="leave a class"):
        head.remove(torch.arange(C))


def test_the_sampler_follows_or_says_what_it_needs():
    head = SampledHead(Classes(C, COUNTS[:C]), D)
    with pytest.raises(ConfigError, match="needs class counts"):
        head.extend(NEW)
    assert len(head.weight) == head.num_classes == C
    with pytest.raises(ConfigError, match="sampler of your own"):
        SampledHead(C, D, sampler=Uniform(C)).extend(NEW)


def test_weights_are_shared_with_an_embedding():
    embedding = torch.nn.Embedding(C, D, sparse=True)
    head = SampledHead(C, D, weight=embedding.weight, sampler="uniform", num_sampled=4)
    assert head.weight is embedding.weight
    optimizer = optimizers["rowwise_adagrad"]([embedding.weight, head.bias], lr=0.1)
    before = embedding.weight.detach().clone()
    head(embedding(torch.tensor([2, 3])), torch.tensor([3, 4])).backward()
    optimizer.step()
    assert (embedding.weight[2:5] != before[2:5]).any(1).all()
    head.extend(NEW, init="zeros", optimizer=optimizer)
    assert embedding(torch.tensor([C])).tolist() == [[0.0] * D]
    with pytest.raises(ShapeError, match="one row a class"):
        ExactHead(C, D + 1, weight=embedding.weight)
