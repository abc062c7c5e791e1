import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import ShapeError
from widemax.optim.rows import as_rows, per_row, touched_rows, widened

C, D = 7, 3


def rows_grad(rows, values):
    return torch.sparse_coo_tensor([rows], values, (C, *values.shape[1:]), check_invariants=True)


def test_a_gradient_sparse_in_both_dimensions_is_refused() -> None:
    with pytest.raises(ShapeError, match="1 sparse dimension"):
        touched_rows(torch.eye(C).to_sparse())


@given(rows=st.lists(st.integers(0, C - 1), max_size=20))
def test_touched_rows_agree_with_coalesce(rows: list[int]) -> None:
    grad = rows_grad(rows, torch.arange(len(rows) * D, dtype=torch.float32).view(-1, D))
    expected = grad.coalesce()
    rows_R, grad_RD = touched_rows(grad)
    assert torch.equal(rows_R, expected.indices()[0])
    assert torch.equal(grad_RD, expected.values())


def test_per_row_and_as_rows() -> None:
    assert torch.equal(
        per_row(torch.tensor([2.0, 3.0], dtype=torch.float64), torch.ones(2, 4, 4)) * torch.ones(2, 4, 4),
        torch.tensor([2.0, 3.0]).view(2, 1, 1).expand(2, 4, 4),
    )
    scalar = torch.tensor(1.0)
    as_rows(scalar).add_(1.0)
    assert scalar == 2.0, "a view, not a copy"


def test_only_bfloat16_is_widened() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        tensor = torch.ones(2, dtype=dtype)
        assert widened(tensor) is tensor
    assert widened(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
