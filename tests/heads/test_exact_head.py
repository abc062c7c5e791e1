"""The loss over all classes."""

import numpy as np
import pytest
import torch
from scipy import special
from torch.nn import functional as F

from widemax.errors import ConfigError, UsageError
from widemax.heads import ExactHead, SeveralLabels
from widemax.kernels import budget
from widemax.losses import binary_cross_entropy, cross_entropy, reduce_loss

B, C, D = 5, 12, 3


@pytest.fixture(params=["plain", "tiled"])
def path(request, monkeypatch):
    if request.param == "tiled":
        monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)
    return request.param


def build(**options):
    torch.manual_seed(0)
    head = ExactHead(C, D, **options).double()
    torch.nn.init.normal_(head.bias)
    return head


def some_hidden():
    return torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


SEVERAL = SeveralLabels(torch.tensor([4, 11, 0, 0, 5, 6]), torch.tensor([0, 2, 3, 3, 6, 6]))


def target_rows(*, share):
    rows_BC = torch.zeros(B, C, dtype=torch.float64)
    rows_BC[SEVERAL.pairs()] = 1
    return rows_BC / rows_BC.sum(1, keepdim=True).clamp(min=1) if share else rows_BC


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_label_agrees_with_torch(path, smoothing):
    head, hidden = build(temperature=0.5, label_smoothing=smoothing), some_hidden()
    labels = torch.tensor([0, 11, 3, 3, 7])
    logits = (hidden @ head.weight.T + head.bias) / 0.5
    expected = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(head(hidden, labels, reduction="none"), expected, rtol=1e-12, atol=1e-12)


def test_several_labels_share_the_target(path):
    head, hidden = build(), some_hidden()
    logits = hidden @ head.weight.T + head.bias
    loss_B = head(hidden, SEVERAL, reduction="none")
    torch.testing.assert_close(loss_B, cross_entropy(logits, target_rows(share=True)))
    assert loss_B[[2, 4]].tolist() == [0, 0]
    assert build(label_smoothing=0.3)(hidden, SEVERAL, reduction="none")[[2, 4]].tolist() == [0, 0]


def test_yes_or_no_a_class(path):
    head, hidden = build(loss="binary_cross_entropy"), some_hidden()
    logits = hidden @ head.weight.T + head.bias
    loss_B = head(hidden, SEVERAL, reduction="none")
    torch.testing.assert_close(loss_B, binary_cross_entropy(logits, target_rows(share=False)))
    one = head(hidden, torch.tensor([1, 2, 3, 4, 5]), reduction="none")
    torch.testing.assert_close(
        one, binary_cross_entropy(logits, torch.eye(B, C, dtype=torch.float64).roll(1, 1))
    )


def test_sample_weights_and_reduction(path):
    head, hidden = build(), some_hidden()
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0])
    loss_B = head(hidden, SEVERAL, reduction="none")
    expected = (loss_B * weight).sum() / weight.sum()
    torch.testing.assert_close(head(hidden, SEVERAL, sample_weight=weight), expected)
    torch.testing.assert_close(head(hidden, SEVERAL, reduction="sum"), loss_B.sum())


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"loss": "binary_cross_entropy"}])
def test_gradcheck(path, options):
    head = build(temperature=0.7, **options)
    hidden = some_hidden().requires_grad_()

    def loss(hidden, weight, bias):
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(head, parameters, (hidden, SEVERAL), {"reduction": "none"})

    assert torch.autograd.gradcheck(loss, (hidden, head.weight, head.bias))


def test_loss_is_what_the_answers_say(path):
    head, hidden = build(temperature=0.5), some_hidden()
    labels = torch.tensor([0, 11, 3, 3, 7])
    answers = head.answer(hidden, labels, k=1)
    torch.testing.assert_close(-answers.label_log_probs, head(hidden, labels, reduction="none"))
    exact_logits = ((hidden @ head.weight.T + head.bias) / 0.5).detach().numpy()
    np.testing.assert_allclose(answers.log_partition, special.logsumexp(exact_logits, 1), rtol=1e-12)


def test_smoothing_of_yes_or_no_is_refused():
    with pytest.raises(ConfigError, match=r"label_smoothing must be 0 .* got 0\.1"):
        ExactHead(C, D, loss="binary_cross_entropy", label_smoothing=0.1)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.0, 2.0, 3.0, 0.5]), torch.zeros(B)])
def test_loss_and_gradient_at_once_are_those_of_the_rows(monkeypatch, loss, reduction, weights):
    monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)
    head, hidden = build(loss=loss), some_hidden().requires_grad_()
    inputs = [hidden, *head.parameters()]
    fused = head(hidden, SEVERAL, sample_weight=weights, reduction=reduction)
    assert "Fused" in fused.grad_fn.name()
    loss_B = head(hidden, SEVERAL, reduction="none")
    rows = reduce_loss(loss_B, sample_weight=weights, reduction=reduction)
    torch.testing.assert_close(fused, rows)
    for one, other in zip(*(torch.autograd.grad(x, inputs) for x in (fused, rows)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("labels", [SEVERAL, torch.tensor([0, 11, 3, 3, 7])])
def test_class_weights_and_z_loss_need_no_logits(monkeypatch, labels):
    monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)
    options = {"class_weight": torch.linspace(0.0, 2.0, C), "z_loss": 0.1}
    head, hidden = build(loss={"kind": "cross_entropy", **options}, temperature=0.5), some_hidden()
    hidden.requires_grad_()
    logits = (hidden @ head.weight.T + head.bias) / 0.5
    target = labels if isinstance(labels, torch.Tensor) else target_rows(share=True)
    rows = cross_entropy(logits, target, **options)
    torch.testing.assert_close(head(hidden, labels, reduction="none"), rows)
    fused, inputs = head(hidden, labels), [hidden, *head.parameters()]
    assert "Fused" in fused.grad_fn.name()
    torch.testing.assert_close(fused, rows.mean())
    for one, other in zip(*(torch.autograd.grad(x, inputs) for x in (fused, rows.mean())), strict=True):
        torch.testing.assert_close(one, other)


def test_weights_of_rows_can_be_learned(path):
    weights = torch.ones(B, dtype=torch.float64, requires_grad=True)
    head = build()
    head(some_hidden(), SEVERAL, sample_weight=weights, reduction="sum").backward()
    loss_B = head(some_hidden(), SEVERAL, reduction="none")
    torch.testing.assert_close(weights.grad, loss_B.detach())


def test_functional_transforms(path):
    head, hidden, labels = build(), some_hidden(), torch.tensor([0, 11, 3, 3, 7])
    by_func = torch.func.grad(lambda hidden: head(hidden, labels))(hidden)
    hidden.requires_grad_()
    torch.testing.assert_close(by_func, torch.autograd.grad(head(hidden, labels), hidden)[0])


def test_an_unknown_reduction_is_refused(path):
    with pytest.raises(UsageError, match="got 'average'"):
        build()(some_hidden(), SEVERAL, reduction="average")


def test_skipped_mass_is_reported(monkeypatch):
    monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)
    head, hidden, labels = build(skip_mass=0.5), some_hidden(), torch.tensor([0, 11, 3, 3, 7])
    head(hidden, labels)
    assert head.skipped.allowed_mass == 0.5
    assert 0 <= head.skipped.dropped_mass <= 0.5
    with pytest.raises(ConfigError, match="skip_mass must be 0"):
        ExactHead(C, D, loss="focal", skip_mass=0.1)
