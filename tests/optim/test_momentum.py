import torch
from torch import Tensor

from widemax.optim import Momentum

C, D = 5, 4


def start() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(C, D, generator=torch.Generator().manual_seed(0)).double())


def gradient(step: int) -> Tensor:
    """Two rows a step; row 4 only once."""
    grad = torch.zeros(C, D, dtype=torch.float64)
    rows = [4, 0] if step == 3 else [step % 4, (step * step) % 3]
    grad[rows] = torch.randn(2, D, generator=torch.Generator().manual_seed(step)).double()
    return grad


def test_sleeping_rows_glide_exactly_as_in_dense_sgd() -> None:
    ours, theirs = start(), start()
    optimizer = Momentum([ours], lr=0.3, momentum=0.7)
    oracle = torch.optim.SGD([theirs], lr=0.3, momentum=0.7)
    for step in range(25):
        theirs.grad = gradient(step)
        rows = theirs.grad.abs().sum(1).nonzero()[:, 0]
        ours.grad = torch.sparse_coo_tensor(rows[None], theirs.grad[rows], (C, D), check_invariants=True)
        optimizer.step()
        oracle.step()
    assert not torch.allclose(ours, theirs), "untouched rows have deferred updates"
    optimizer.catch_up()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_without_momentum_it_is_plain_gradient_descent() -> None:
    weight = start()
    before = weight.detach().clone()
    weight.grad = gradient(1)
    Momentum([weight], lr=0.5, momentum=0.0).step()
    torch.testing.assert_close(weight.detach(), before - 0.5 * gradient(1))
