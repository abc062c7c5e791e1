"""What every optimizer here shares: a step that costs O(rows touched).

Shape letters: R rows of a block: those touched by a step, or all C rows of a parameter (classes).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import unwrap
from itertools import chain
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeAlias, overload

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.optimizer import ParamsT, StateDict

from widemax.errors import ConfigError, ShapeError, UsageError
from widemax.optim.rows import as_rows, touched_rows, widened
from widemax.optim.stochastic_rounding import column_numbers, mixed_seed, stochastic_round
from widemax.options import checked
from widemax.registry import Registry

Group: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, Any]

SETTLED_ROWS = 2**16
"""Rows brought to the present at a time, so that bfloat16 is never held in float32 as a whole."""


_OF_TORCH = {"params", "param_names", "initial_lr"}
"""What a group may hold beside options."""

AtLeast0 = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]

optimizers: Registry[type["RowOptimizer"]] = Registry(
    "optimizer", "widemax.optim", moved={"betas": "give beta1 and beta2."}
)


class RowOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer that updates blocks of rows: all rows of a dense gradient, or those of a sparse one.

    A member states what a parameter remembers (``new_state``: a tensor has one entry a row, a number belongs
    to the whole parameter) and how a block of rows moves (``update``, in place). This class gathers the rows
    a sparse gradient touches, calls ``update``, and writes them back; other rows stay bitwise as they were.

    Parameters in bfloat16 are moved in float32, with their state in float32, and rounded stochastically when
    written back. The random bits of a row follow from its place and one number of the parameter's state that
    counts steps: a resumed run rounds as an uninterrupted one does, and several processes, each with some of
    the rows, as one (see ``split``).

    Args:
        params: parameters or groups, as for any torch optimizer; a group may set any option.
        defaults: the options of a group that sets none; ``lr`` and ``seed`` are needed.
        lr: learning rate, 0 or more.
        seed: of the stochastic rounding of bfloat16 parameters, in [0, 2^64).

    Attributes:
        has_weight_decay: whether it takes ``weight_decay``.
        has_rowwise: whether it takes ``rowwise``, one number of state a row in place of one an entry.
    """

    # As torch has it, without the wrapper that loads its compiler, which no step here needs.
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)

    has_weight_decay: ClassVar[bool] = False
    has_rowwise: ClassVar[bool] = False
    # By the parameter's place, so that nothing holds one that is given up.
    _shards: Mapping[int, tuple[int, int]] = MappingProxyType({})

    def __init__(self, params: ParamsT, defaults: Group) -> None:
        _check_decay(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Further parameters, as for any torch optimizer, with options of their own.

        Raises:
            OptionError: an option that the optimizer does not have, or a wrong value.
        """
        options = optimizers.options(type(self))
        given = {name: value for name, value in param_group.items() if name not in _OF_TORCH}
        group = {**param_group, **options.check_keywords(given)}
        _check_decay(self.defaults | group)
        # Without the wrapper too.
        unwrap(torch.optim.Optimizer.add_param_group)(self, group)

    @abstractmethod
    def new_state(self, parameter: Tensor, group: Group) -> State:
        """The state before the first step: tensors of one entry a row, and numbers.

        ``parameter`` shows shape, dtype and device only; its values mean nothing, and on the meta device
        torch loads sympy for a ``zeros_like`` of it, not for ``new_zeros``.
        """

    @abstractmethod
    def update(self, weight: Tensor, grad: Tensor, state: State, group: Group) -> None:
        """Moves a block of rows in place; ``state`` holds the same rows of the state's tensors."""

    def update_in_place(self, parameter: Tensor, rows_R: Tensor | None, grad_R: Tensor, group: Group) -> bool:
        """Moves these rows of a parameter, or all, and its state without copies; whether it can."""
        return False

    def settle(self, weight: Tensor, state: State, group: Group) -> None:
        """Applies to a block of rows, in place, the updates that were deferred while no gradient touched it.

        Numbers of the state stay. Nothing to do unless a member is lazy.
        """

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
        weight, grad = as_rows(parameter), as_rows(grad)
        state = self.state[parameter]
        if not state:
            state.update(self.new_state(_template(parameter, len(weight)), group))
        rows_R, grad_R = touched_rows(widened(grad)) if grad.is_sparse else (None, grad)
        if self.update_in_place(parameter, rows_R, grad_R, group):
            return
        if rows_R is None:
            seed = self._next_seed(parameter)
            numbers = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
            size = SETTLED_ROWS if parameter.dtype == torch.bfloat16 else len(weight)
            for start in range(0, len(weight), max(size, 1)):
                block = slice(start, start + size)
                weight_R = weight[block]
                moved_R = widened(weight_R)
                # Each block begins with the numbers that all begin with.
                state_R = {k: v[block] if isinstance(v, Tensor) else numbers[k] for k, v in state.items()}
                self.update(moved_R, widened(grad[block]), state_R, group)
                weight_R.copy_(self._rounded(moved_R, parameter, seed, start=start))
                state.update({key: state_R[key] for key in numbers})
            return
        weight_R = widened(weight.index_select(0, rows_R))
        state_R = {k: v.index_select(0, rows_R) if isinstance(v, Tensor) else v for k, v in state.items()}
        self.update(weight_R, grad_R, state_R, group)
        for key, value in state_R.items():
            if isinstance(value, Tensor):
                state[key].index_copy_(0, rows_R, value)
            else:
                state[key] = value
        weight.index_copy_(0, rows_R, self._rounded(weight_R, parameter, self._next_seed(parameter), rows_R))

    def split(self, parameter: Tensor, shard: int, num_shards: int) -> None:
        """Tell that row r of a parameter is row shard + r · num_shards of one that several processes hold.

        Its rows in bfloat16 are rounded as those of the whole are in one process.
        """
        place, _ = self._place(parameter)
        self._shards = {**self._shards, place: (shard, num_shards)}

    def _next_seed(self, parameter: Tensor) -> int:
        """Of the roundings of a step, which no other step has."""
        if parameter.dtype != torch.bfloat16:
            return 0
        state = self.state[parameter]
        if "rounding_seed" not in state:
            index, group = self._place(parameter)
            state["rounding_seed"] = mixed_seed(group["seed"], index)
        state["rounding_seed"] += 1
        return mixed_seed(state["rounding_seed"] - 1)

    def _rounding(self, parameter: Tensor) -> tuple[Tensor, int, int] | None:
        """Of a step: what random bits of columns follow from, the place of row 0, the distance of places.

        None for weights that are not rounded.
        """
        if parameter.dtype != torch.bfloat16:
            return None
        generator = torch.Generator(parameter.device).manual_seed(self._next_seed(parameter))
        numbers = column_numbers(parameter.shape[1:].numel(), generator)
        return numbers, *self._shards.get(self._place(parameter)[0], (0, 1))

    def _rounded(
        self, weight_R: Tensor, parameter: Tensor, seed: int, rows_R: Tensor | None = None, start: int = 0
    ) -> Tensor:
        """Moved rows in the parameter's own dtype; those from ``start`` on unless others are named."""
        if parameter.dtype != torch.bfloat16:
            return weight_R
        if rows_R is None:
            rows_R = torch.arange(start, start + len(weight_R), device=weight_R.device)
        shard, num_shards = self._shards.get(self._place(parameter)[0], (0, 1))
        generator = torch.Generator(weight_R.device).manual_seed(seed)
        return stochastic_round(weight_R, generator, places=shard + num_shards * rows_R)

    def _place(self, parameter: Tensor) -> tuple[int, Group]:
        """A parameter's position among all of the optimizer, and its group."""
        places = ((member, group) for group in self.param_groups for member in group["params"])
        for index, (member, group) in enumerate(places):
            if member is parameter:
                return index, group
        raise UsageError(
            f"the parameter must be one of this optimizer; got another of shape {list(parameter.shape)}. "
            "Pass the Parameter object the optimizer was built with."
        )

    @checked
    @torch.no_grad()
    def catch_up(self) -> None:
        """Brings every row to the present step. Call it before evaluating or saving the parameters."""
        if type(self).settle is RowOptimizer.settle:
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                if self.state[parameter]:
                    self._settle_parameter(parameter, group)

    def _settle_parameter(self, parameter: Tensor, group: Group) -> None:
        weight, state = as_rows(parameter), self.state[parameter]
        seed = self._next_seed(parameter)
        for start in range(0, len(weight), SETTLED_ROWS):
            block = slice(start, start + SETTLED_ROWS)
            weight_R = weight[block]
            state_R = {k: v[block] if isinstance(v, Tensor) else v for k, v in state.items()}
            settled_R = widened(weight_R)
            self.settle(settled_R, state_R, group)
            weight_R.copy_(self._rounded(settled_R, parameter, seed, start=start))

    @checked
    @torch.no_grad()
    def resize(self, parameter: Tensor, kept_rows: Tensor, num_new: int) -> None:
        """Follows a parameter whose data were replaced by a tensor of old rows, then new ones.

        Kept rows keep their state bitwise, their deferred updates included. New rows have the state from
        before a first step, and nothing deferred. The gradient, which was one of the old rows, is dropped.

        Args:
            parameter: one of this optimizer, its data replaced already.
            kept_rows: [K] for each of its first K rows, the row it was before.
            num_new: rows added after those.

        Raises:
            ShapeError: when the parameter does not have K + num_new rows.
            UsageError: when ``kept_rows`` names a row that was not there, or the parameter is not one of this
                optimizer.

        Example:
            >>> from widemax.optim import RowwiseAdagrad
            >>> weight = torch.nn.Parameter(torch.zeros(3))
            >>> weight.grad = torch.tensor([1.0, 2.0, 3.0])
            >>> optimizer = RowwiseAdagrad([weight])
            >>> optimizer.step()
            >>> weight.data = torch.cat([weight.data[[0, 2]], torch.zeros(1)])
            >>> optimizer.resize(weight, torch.tensor([0, 2]), 1)
            >>> optimizer.state[weight]["sum"]
            tensor([1., 9., 0.])
        """
        _, group = self._place(parameter)
        if len(parameter) != len(kept_rows) + num_new:
            raise ShapeError(
                f"the parameter must have {len(kept_rows)} kept rows and {num_new} new ones; "
                f"got {len(parameter)}. Replace its data before calling resize."
            )
        state = self.state[parameter]
        numbers = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
        template = _template(parameter, num_new)
        fresh = self.new_state(template, group) | numbers
        # Deferred updates from before these rows were there are applied to weights that are thrown away.
        self.settle(torch.zeros_like(template), fresh, group)
        for key, rows_C in state.items():
            if isinstance(rows_C, Tensor):
                _check_rows(kept_rows, len(rows_C))
                kept = rows_C.index_select(0, kept_rows.to(rows_C.device))
                state[key] = torch.cat([kept, fresh[key]])
        parameter.grad = None

    @checked
    def load_state_dict(self, state_dict: StateDict) -> None:
        """Takes over a saved state bitwise.

        ``torch.optim.Optimizer.load_state_dict`` casts every tensor to the parameter's dtype, which would
        turn counters into floats; here each keeps the dtype it was saved with.

        Raises:
            ShapeError: when a saved tensor has another number of rows than its parameter, or the state is of
                another optimizer.
        """
        load = unwrap(torch.optim.Optimizer.load_state_dict)
        load(self, {"state": {}, "param_groups": state_dict["param_groups"]})
        saved_ids = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for saved_id, parameter in zip(saved_ids, parameters, strict=True):
            saved = state_dict["state"].get(saved_id, {})
            fresh = self.new_state(
                _template(parameter.to("meta"), len(as_rows(parameter))), self._place(parameter)[1]
            )
            if parameter.dtype == torch.bfloat16:
                fresh["rounding_seed"] = 0
            kinds, wanted = ({key: _kind(value) for key, value in each.items()} for each in (saved, fresh))
            if saved and kinds != wanted:
                raise ShapeError(
                    f"the state of parameter {saved_id} must hold {wanted}; got {kinds}. "
                    "Load the state into an optimizer of the model it was saved from."
                )
            for key, value in saved.items():
                if not isinstance(value, Tensor):
                    self.state[parameter][key] = value
                    continue
                self.state[parameter][key] = value.to(parameter.device, copy=True)


def _check_decay(group: Group) -> None:
    decay = group["lr"] * group.get("weight_decay", 0.0)
    if not 0.0 <= decay < 1.0:
        raise ConfigError(f"lr * weight_decay must lie in [0, 1); got {decay}. Lower weight_decay.")


def _kind(value: Any) -> str:
    """What a value of a state is: shape and type of a tensor, or the type of a number."""
    return (
        f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    )


def _template(parameter: Tensor, num_rows: int) -> Tensor:
    """What a state is shaped after: so many rows in the dtype of computation, without their memory."""
    return widened(parameter.new_zeros(())).expand(num_rows, *parameter.shape[1:])


def _check_rows(rows: Tensor, num_rows: int) -> None:
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < num_rows:
        raise UsageError(
            f"kept_rows must lie in [0, {num_rows}); got {int(rows.min())} to {int(rows.max())}. "
            "Name each kept row by where it was before."
        )
