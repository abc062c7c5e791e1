"""The mixture of softmaxes, against its formula."""

import numpy as np
import pytest
import torch
from scipy import special

from widemax.heads import ExactHead, SeveralLabels
from widemax.heads.mixture_of_softmaxes import MixtureOfSoftmaxesHead
from widemax.kernels import budget

B, C, D, K = 6, 20, 4, 3


def build(num_components=K, bias=True):
    torch.manual_seed(0)
    head = MixtureOfSoftmaxesHead(C, D, num_components=num_components, bias=bias)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.double()


def some_hidden(rows=B):
    return torch.randn(rows, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def expected_log_probs(head, hidden):
    h, weight, mixture, component, shift = (
        tensor.detach().numpy()
        for tensor in (
            hidden,
            head.weight,
            head.mixture_weight,
            head.component_weight.view(-1, D, D),
            head.component_bias.view(-1, D),
        )
    )
    bias = 0 if head.bias is None else head.bias.detach().numpy()
    shares = special.softmax(h @ mixture.T, axis=1)
    probs = sum(
        shares[:, [k]] * special.softmax(np.tanh(h @ component[k].T + shift[k]) @ weight.T + bias, axis=1)
        for k in range(len(mixture))
    )
    return np.log(probs)


@pytest.fixture(params=["plain", "tiled"])
def path(request, monkeypatch):
    if request.param == "tiled":
        monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)


@pytest.mark.parametrize("bias", [True, False])
def test_the_formula(path, bias):
    head, hidden = build(bias=bias), some_hidden()
    expected = expected_log_probs(head, hidden)
    np.testing.assert_allclose(head.log_probs(hidden, torch.arange(C)), expected, rtol=1e-12)
    labels = torch.tensor([0, 19, 3, 3, 7, 11])
    loss_B = head(hidden, labels, reduction="none").detach()
    np.testing.assert_allclose(loss_B, -expected[np.arange(B), labels], rtol=1e-12)
    # Mixing log-probabilities instead of probabilities is one softmax again, and another loss.
    log_shares = (hidden @ head.mixture_weight.T).log_softmax(1)
    components = (hidden @ head.component_weight.T + head.component_bias).tanh().view(B, K, D)
    logits = components @ head.weight.T + (0 if head.bias is None else head.bias)
    geometric = (log_shares.exp()[..., None] * logits.log_softmax(2)).sum(1).log_softmax(1)
    assert not np.allclose(geometric.detach(), expected, rtol=1e-2)


def test_several_labels(path):
    head, hidden = build(), some_hidden(2)
    expected = expected_log_probs(head, hidden)
    labels = SeveralLabels(torch.tensor([4, 19, 5]), torch.tensor([0, 2, 3]))
    loss_B = head(hidden, labels, reduction="none").detach()
    np.testing.assert_allclose(loss_B, [-(expected[0, 4] + expected[0, 19]) / 2, -expected[1, 5]], rtol=1e-12)


def test_some_classes_without_all_the_logits():
    head, hidden = build(), some_hidden()
    expected = expected_log_probs(head, hidden)
    ids = torch.tensor([3, 19, 0])
    np.testing.assert_allclose(head.log_probs(hidden, ids), expected[:, ids], rtol=1e-12)
    own = torch.arange(2 * B).view(B, 2)
    np.testing.assert_allclose(
        head.log_probs(hidden, own), np.take_along_axis(expected, own.numpy(), 1), rtol=1e-12
    )


def test_one_component_is_one_softmax():
    head, hidden = build(num_components=1), some_hidden()
    inner = (hidden @ head.component_weight.T + head.component_bias).tanh()
    expected = (inner @ head.weight.T + head.bias).log_softmax(1)
    torch.testing.assert_close(head.log_probs(hidden, torch.arange(C)), expected, rtol=1e-12, atol=0)


def log_prob_rank(head):
    return int(torch.linalg.matrix_rank(head.log_probs(some_hidden(50), torch.arange(C)), rtol=1e-9))


def test_the_rank_is_not_bound_by_the_dimension():
    linear = ExactHead(C, D).double()
    torch.nn.init.normal_(linear.bias)
    # h Wᵀ has rank D, the biases and log Z add one each.
    assert log_prob_rank(linear) <= D + 2
    assert log_prob_rank(build()) > D + 2
    assert log_prob_rank(build()) == C
