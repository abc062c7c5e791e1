"""Both forms of the loss train alike, and only one survives large logits."""

import torch

from widemax.losses import cross_entropy
from widemax.recipes.softmax_lab import new_net, through_probabilities, train


def clouds():
    labels_B = torch.arange(4).repeat(50)
    centers_C2 = torch.tensor([[-5.0, 2.0], [-2.0, -2.0], [1.0, 2.0], [5.0, -2.0]])
    return centers_C2[labels_B] + torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), labels_B


def test_either_loss_falls_and_the_same_seed_gives_the_same_steps():
    points_B2, labels_B = clouds()
    curves = [
        train(new_net(0), points_B2, labels_B, loss, epochs=5, seed=0)
        for loss in (cross_entropy, through_probabilities, cross_entropy)
    ]
    assert curves[0] == curves[2]
    assert curves[0][-1] < curves[0][0]
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), rtol=1e-3, atol=0)


def test_large_logits_end_the_loss_through_probabilities():
    logits_BC = torch.tensor([[0.0, 200.0]], requires_grad=True)
    labels_B = torch.tensor([0])
    assert cross_entropy(logits_BC, labels_B).tolist() == [200.0]
    loss_B = through_probabilities(logits_BC, labels_B)
    assert loss_B.tolist() == [torch.inf]
    assert torch.autograd.grad(loss_B.sum(), logits_BC)[0].abs().sum() == 0
