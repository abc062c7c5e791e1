import pytest
import torch

from widemax.optim import RowwiseAdagrad


def test_elementwise_equals_torch_adagrad() -> None:
    start = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = RowwiseAdagrad([ours], lr=0.3, rowwise=False)
    oracle = torch.optim.Adagrad([theirs], lr=0.3)
    for seed in range(6):
        ours.grad = theirs.grad = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.step()
        oracle.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("sparse", [False, True])
def test_rowwise_follows_the_formula(sparse: bool) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    expected = weight.detach().double().tolist()
    accumulators = [0.0] * 4
    lr, eps, weight_decay = 0.2, 1e-3, 0.5
    optimizer = RowwiseAdagrad([weight], lr=lr, eps=eps, weight_decay=weight_decay)
    for seed in range(5):
        grad = torch.randn(4, 3, generator=torch.Generator().manual_seed(10 + seed))
        rows = [seed % 4, (seed + 1) % 4] if sparse else range(4)
        for row in rows:
            accumulators[row] += sum(g * g for g in grad[row].tolist()) / 3
            for column, g in enumerate(grad[row].tolist()):
                decayed = expected[row][column] * (1 - lr * weight_decay)
                expected[row][column] = decayed - lr * g / (accumulators[row] ** 0.5 + eps)
        indices = [list(rows)]
        weight.grad = (
            torch.sparse_coo_tensor(indices, grad[list(rows)], (4, 3), check_invariants=True)
            if sparse
            else grad
        )
        optimizer.step()
    torch.testing.assert_close(
        weight.detach().double(), torch.tensor(expected).double(), rtol=1e-5, atol=1e-6
    )


def test_one_accumulator_a_row_for_matrices_only() -> None:
    matrix, narrow, bias = (torch.nn.Parameter(torch.ones(shape)) for shape in [(6, 4), (6, 2), (6,)])
    optimizer = RowwiseAdagrad([{"params": [matrix, bias]}, {"params": [narrow], "rowwise": False}])
    for weight in (matrix, narrow, bias):
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    shapes = [tuple(optimizer.state[weight]["sum"].shape) for weight in (matrix, narrow, bias)]
    assert shapes == [(6,), (6, 2), (6,)]


def test_a_row_without_gradient_stands_still() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    weight.grad = torch.zeros(2, 3)
    RowwiseAdagrad([weight]).step()
    assert torch.equal(weight, torch.ones(2, 3))
