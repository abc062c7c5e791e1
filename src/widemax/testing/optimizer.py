"""The laws of optimizers. Shapes: C rows of a parameter, R rows of a sparse gradient, D columns."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from widemax.options import checked
from widemax.testing.report import Report, require, require_close, run_laws

Factory = Callable[[list[nn.Parameter]], Optimizer]

ROWS, DIM = 8, 3
STEPS = 200


@checked
def check_optimizer(factory: Factory) -> Report:
    """Whether an optimizer takes sparse gradients as what they stand for, and can be stopped and resumed.

    Args:
        factory: a list of parameters → a new optimizer of them.

    Raises:
        ConformanceError: a law is broken.

    Example:
        >>> from widemax.optim import LazyAdam
        >>> check_optimizer(LazyAdam).skipped
        {}
    """
    laws = {
        "minimizes": _minimizes,
        "untouched rows": _untouched_rows,
        "duplicate rows": _duplicate_rows,
        "sparse as dense": _sparse_as_dense,
        "empty gradient": _empty_gradient,
        "no gradient": _no_gradient,
        "float64": _float64,
        "stopped and resumed": _stopped_and_resumed,
    }
    name = type(factory([_parameter()])).__name__
    return run_laws(name, {law: partial(ask, factory) for law, ask in laws.items()})


def _parameter(dtype: torch.dtype = torch.float32) -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    return nn.Parameter(torch.randn(ROWS, DIM, dtype=torch.float64, generator=generator).to(dtype))


def _sparse(rows: list[int], values_RD: Tensor) -> Tensor:
    """A gradient of some rows, as it comes from a gather: a row may stand in it several times."""
    indices = torch.tensor([rows], dtype=torch.int64)
    return torch.sparse_coo_tensor(indices, values_RD, (ROWS, DIM), check_invariants=True)


def _gradients(num_steps: int, dtype: torch.dtype = torch.float32) -> Iterable[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_steps):
        yield torch.randn(ROWS, DIM, dtype=torch.float64, generator=generator).to(dtype)


def _take(optimizer: Optimizer, parameter: nn.Parameter, gradients: Iterable[Tensor]) -> Tensor:
    """Where the parameter is after one step for each gradient."""
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def _after(factory: Factory, gradients: Iterable[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    """Where a new parameter is after one step of a new optimizer for each gradient."""
    parameter = _parameter(dtype)
    return _take(factory([parameter]), parameter, gradients)


def _minimizes(factory: Factory) -> str:
    parameter = _parameter()
    optimizer = factory([parameter])
    start = float(parameter.detach().square().sum())
    for _ in range(STEPS):
        _take(optimizer, parameter, [2 * parameter.detach()])
    end = float(parameter.detach().square().sum())
    require(end < start, f"{STEPS} steps took Σw² from {start:.4g} to {end:.4g}.", cause="the wrong sign")
    return f"{STEPS} steps take Σw² from {start:.3g} to {end:.3g}"


def _moved_rows(factory: Factory, steps: Iterable[list[int]]) -> Iterable[list[int]]:
    """The rows that each of several sparse steps moves, from the rows of its gradient."""
    parameter = _parameter()
    optimizer = factory([parameter])
    for rows in steps:
        before = parameter.detach().clone()
        after = _take(optimizer, parameter, [_sparse(rows, torch.ones(len(rows), DIM))])
        yield (after != before).any(1).nonzero().flatten().tolist()


def _untouched_rows(factory: Factory) -> str:
    steps = [[1, 4], [4], [6, 1]]
    for rows, moved in zip(steps, _moved_rows(factory, steps), strict=True):
        found = f"a step on the rows {rows} must move them and no others, found that {moved} moved."
        cause = "weight decay or momentum applied to all rows, which costs O(C)"
        require(moved == sorted(rows), found, cause=cause)
    return "a sparse step leaves them bitwise as they were"


def _duplicate_rows(factory: Factory) -> str:
    values_RD = torch.arange(1.0, 13.0).view(4, DIM)
    summed_RD = torch.stack([values_RD[0] + values_RD[2] + values_RD[3], values_RD[1]])
    gradients = _sparse([2, 5, 2, 2], values_RD), _sparse([2, 5], summed_RD)
    results = [_after(factory, [gradient] * 3) for gradient in gradients]
    cause = "a gradient that is not coalesced first"
    require_close("a row that stands 3 times in a gradient", *results, tolerance=1e-6, cause=cause)
    return "are summed before the step"


def _sparse_as_dense(factory: Factory) -> str:
    dense = list(_gradients(5, torch.float64))
    sparse = [_sparse(list(range(ROWS)), gradient) for gradient in dense]
    results = [_after(factory, gradients, torch.float64) for gradients in (dense, sparse)]
    cause = "two formulas, or steps counted twice"
    require_close("5 steps with all rows in a sparse gradient", *results, tolerance=1e-12, cause=cause)
    return "a sparse gradient of all rows moves as the dense one"


def _empty_gradient(factory: Factory) -> str:
    _, moved = _moved_rows(factory, [[3], []])
    found = f"an empty gradient must move nothing, found that the rows {moved} moved."
    require(not moved, found, cause="momentum applied to all rows")
    return "moves nothing"


def _no_gradient(factory: Factory) -> str:
    first, second = _parameter(), _parameter()
    optimizer = factory([first, second])
    first.grad = torch.ones(ROWS, DIM)
    optimizer.step()
    same = torch.equal(second.detach(), _parameter().detach())
    require(
        same, "a parameter without a gradient must stay, found that it moved.", cause="decay without grad"
    )
    return "a parameter without one is passed over"


def _float64(factory: Factory) -> str:
    results = [_after(factory, _gradients(5, dtype), dtype) for dtype in (torch.float32, torch.float64)]
    found = f"a float64 parameter is {results[1].dtype} after a step."
    require(results[1].dtype == torch.float64, found, cause="a state in float32")
    require_close(
        "5 steps in float32, beside float64,", *results, tolerance=1e-4, cause="a state cast to float32"
    )
    is_finer = bool((results[1] != results[1].float()).any())
    require(is_finer, "all float64 weights are float32 numbers.", cause="a computation in float32")
    return "float64 parameters stay float64"


def _stopped_and_resumed(factory: Factory) -> str:
    for is_sparse in (False, True):
        parameter = _parameter()
        optimizer = factory([parameter])
        gradients = list(_gradients(6))
        if is_sparse:
            gradients = [_sparse([step, 2], gradient[:2]) for step, gradient in enumerate(gradients)]
        _take(optimizer, parameter, gradients[:3])
        resumed = nn.Parameter(parameter.detach().clone())
        again = factory([resumed])
        again.load_state_dict(deepcopy(optimizer.state_dict()))
        expected, found = _take(optimizer, parameter, gradients[3:]), _take(again, resumed, gradients[3:])
        gap = float((found - expected).abs().max())
        require(
            torch.equal(found, expected),
            f"3 steps, saved, and 3 more must be 6 steps bitwise, found a difference of {gap:.3g}.",
            cause="state that state_dict() leaves out, or that load_state_dict() casts to another dtype",
        )
    return "goes on bitwise from a state_dict"
