"""What every optimizer here shares: a step that costs O(rows touched).

Shape letters: C rows of a parameter (classes), R rows touched by a step, D row width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeAlias, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT, StateDict

from widemax.errors import ConfigError, ShapeError
from widemax.registry import Registry

Group: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, Any]


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises ConfigError unless ``low <= value < high``."""
    if not low <= value < high:
        raise ConfigError(f"{name} must lie in [{low}, {high}); got {value}.")


def touched_rows(grad: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a sparse gradient, each once, duplicates summed.

    Args:
        grad: sparse COO tensor of shape [C, ...] with one sparse dimension, coalesced or not.

    Returns:
        (rows_R ascending, grad_R of shape [R, ...]).

    Raises:
        ShapeError: when more than the first dimension is sparse.

    Example:
        >>> grad = torch.sparse_coo_tensor([[3, 1, 3]], [1.0, 2.0, 4.0], (5,), check_invariants=True)
        >>> touched_rows(grad)
        (tensor([1, 3]), tensor([2., 5.]))
    """
    if grad.sparse_dim() != 1:
        raise ShapeError(
            f"a sparse gradient must have 1 sparse dimension, the rows; got {grad.sparse_dim()}. "
            "Build it with indices of shape [1, R] and values of shape [R, ...]."
        )
    if grad.is_coalesced():
        return grad.indices()[0], grad.values()
    # unique + index_add_ takes a third of the time of Tensor.coalesce() on a CPU.
    rows_R, position = torch.unique(grad._indices()[0], return_inverse=True)
    values = grad._values()
    return rows_R, values.new_zeros(len(rows_R), *values.shape[1:]).index_add_(0, position, values)


def per_row(factor_R: Tensor, like: Tensor) -> Tensor:
    """A number a row, shaped and typed to multiply a tensor of rows."""
    return factor_R.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


optimizers: Registry[type["RowOptimizer"]] = Registry("optimizer", "widemax.optim")


class RowOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer that updates blocks of rows: all rows of a dense gradient, or those of a sparse one.

    A member states what a parameter remembers (``new_state``: a tensor has one entry a row, a number belongs
    to the whole parameter) and how a block of rows moves (``update``, in place). This class gathers the rows
    a sparse gradient touches, calls ``update``, and writes them back; other rows stay bitwise as they were.
    """

    def __init__(self, params: ParamsT, defaults: Group) -> None:
        check_range("lr", defaults["lr"], 0.0, float("inf"))
        super().__init__(params, defaults)

    @abstractmethod
    def new_state(self, parameter: Tensor, group: Group) -> State:
        """The state before the first step: tensors of one entry a row, and numbers."""

    @abstractmethod
    def update(self, weight: Tensor, grad: Tensor, state: State, group: Group) -> None:
        """Moves a block of rows in place; ``state`` holds the same rows of the state's tensors."""

    def settle(self, weight: Tensor, state: State, group: Group) -> None:
        """Applies to every row what skipped steps still owe it; nothing unless a member is lazy."""

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update from the gradients at hand; a parameter without one is skipped, as in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_parameter(parameter, parameter.grad, group)
        return loss

    def _step_parameter(self, parameter: Tensor, grad: Tensor, group: Group) -> None:
        weight = _as_rows(parameter)
        state = self.state[parameter]
        if not state:
            state.update(self.new_state(weight, group))
        if not grad.is_sparse:
            self.update(weight, _as_rows(grad), state, group)
            return
        rows_R, grad_R = touched_rows(grad)
        weight_R = weight.index_select(0, rows_R)
        state_R = {k: v.index_select(0, rows_R) if isinstance(v, Tensor) else v for k, v in state.items()}
        self.update(weight_R, grad_R, state_R, group)
        weight.index_copy_(0, rows_R, weight_R)
        for key, value in state_R.items():
            if isinstance(value, Tensor):
                state[key].index_copy_(0, rows_R, value)
            else:
                state[key] = value

    @torch.no_grad()
    def catch_up(self) -> None:
        """Brings every row to the present step. Call it before evaluating or saving the parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if self.state[parameter]:
                    self.settle(_as_rows(parameter), self.state[parameter], group)

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Takes over a saved state bitwise.

        ``torch.optim.Optimizer.load_state_dict`` casts every tensor to the parameter's dtype, which would
        turn counters into floats; here each keeps the dtype it was saved with.

        Raises:
            ShapeError: when a saved tensor has another number of rows than its parameter.
        """
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        saved_ids = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for saved_id, parameter in zip(saved_ids, parameters, strict=True):
            for key, value in state_dict["state"].get(saved_id, {}).items():
                if not isinstance(value, Tensor):
                    self.state[parameter][key] = value
                    continue
                num_rows = len(_as_rows(parameter))
                if len(value) != num_rows:
                    raise ShapeError(
                        f"state {key!r} of parameter {saved_id} must have {num_rows} rows; got {len(value)}. "
                        "Load the state into an optimizer of the model it was saved from."
                    )
                self.state[parameter][key] = value.to(parameter.device, copy=True)


def _as_rows(tensor: Tensor) -> Tensor:
    """A scalar seen as one row; anything else as it is."""
    return tensor.unsqueeze(0) if tensor.dim() == 0 else tensor
