"""A head whose class weights a tower makes is the head of these weights. Shapes: C classes, D hidden, B rows,
N classes asked, F features."""

import pytest
import torch
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.heads import ExactHead, SampledHead, SeveralLabels
from widemax.samplers import Uniform
from widemax.testing import check_head

C, D, B = 30, 5, 8


class Letters(nn.Module):
    """Weights from six features a class."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        features = torch.randn(num_classes, 6, generator=torch.Generator().manual_seed(0))
        self.register_buffer("features_CF", features)
        self.map = nn.Linear(6, dim, bias=False)

    def forward(self, own_rows: Tensor, class_ids: Tensor | None = None) -> Tensor:
        features_NF = self.features_CF if class_ids is None else self.features_CF[class_ids]
        return own_rows + self.map(features_NF)


def exact(num_classes: int, dim: int, **options: object) -> ExactHead:
    return ExactHead(num_classes, dim, Letters(num_classes, dim), **options)


def sampled(num_classes: int, dim: int, **options: object) -> SampledHead:
    options = {"sampler": "uniform", "num_sampled": 16, **options}
    return SampledHead(num_classes, dim, Letters(num_classes, dim), **options)


@pytest.mark.parametrize("build", [exact, sampled])
def test_it_obeys_the_laws_of_heads(build) -> None:
    check_head(build)


def both(build, **options):
    """A head with a tower, and the one that has its weights as parameters."""
    torch.manual_seed(0)
    head = build(C, D, **options)
    nn.init.normal_(head.own_weight)
    nn.init.normal_(head.bias)
    kind = ExactHead if build is exact else SampledHead
    options = options if build is exact else {"sampler": "uniform", "num_sampled": 16, **options}
    plain = kind(C, D, nn.Parameter(head.weight.detach().clone()), **options)
    plain.bias.data.copy_(head.bias.data)
    plain.load_training_state(head.training_state())
    return head, plain, torch.randn(B, D)


@pytest.mark.parametrize("build", [exact, sampled])
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_answers_are_those_of_the_explicit_weights(build, score) -> None:
    head, plain, hidden = both(build, score=score)
    labels = torch.arange(B) * 3
    ours, theirs = (each.answer(hidden, labels, k=C) for each in (head, plain))
    assert torch.equal(ours.topk.class_ids, theirs.topk.class_ids)
    torch.testing.assert_close(ours.topk.log_probs, theirs.topk.log_probs)
    torch.testing.assert_close(ours.label_log_probs, theirs.label_log_probs)
    some = torch.tensor([4, 0, 9])
    for mine, other in zip(head.scored_rows(some), plain.scored_rows(some), strict=True):
        torch.testing.assert_close(mine, other)


LABELS = {
    "one": torch.arange(B) * 3,
    "several": SeveralLabels(torch.tensor([4, 7, 1, 29, 4]), torch.tensor([0, 2, 2, 3, 3, 4, 4, 4, 5])),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("build", [exact, sampled])
def test_loss_and_gradients_are_those_of_the_explicit_weights(build, loss, labels) -> None:
    head, plain, hidden = both(build, loss=loss)
    tower_loss, plain_loss = (each(hidden, labels) for each in (head, plain))
    torch.testing.assert_close(tower_loss, plain_loss)
    tower_loss.backward()
    plain_loss.backward()
    weight_grad_CD, bias_grad_C = (p.grad.to_dense() for p in (plain.weight, plain.bias))
    torch.testing.assert_close(head.own_weight.grad.to_dense(), weight_grad_CD)
    torch.testing.assert_close(head.bias.grad.to_dense(), bias_grad_C)
    expected_DF = weight_grad_CD.T @ head.tower.features_CF
    torch.testing.assert_close(head.tower.map.weight.grad, expected_DF)


def test_classes_do_not_change_under_a_tower() -> None:
    head = exact(C, D)
    for change in (lambda: head.extend(2), lambda: head.remove(torch.tensor([0]))):
        with pytest.raises(ConfigError, match="classes cannot change while a tower makes"):
            change()


class Watched(Letters):
    asked: Tensor | None

    def forward(self, own_rows: Tensor, class_ids: Tensor | None = None) -> Tensor:
        self.asked = class_ids
        return super().forward(own_rows, class_ids)


def test_a_step_makes_only_the_weights_of_candidates_and_labels() -> None:
    tower = Watched(1000, D)
    head = SampledHead(Classes(1000), D, tower, sampler=Uniform(1000), num_sampled=20)
    head(torch.randn(B, D), torch.arange(B)).backward()
    assert 20 <= len(tower.asked) <= 20 + B
    assert set(range(B)) <= set(tower.asked.tolist())
    assert head.own_weight.grad.is_sparse
    assert torch.equal(head.own_weight.grad.coalesce().indices()[0], tower.asked)
