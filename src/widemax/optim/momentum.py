"""Stochastic gradient descent with momentum that updates a row lazily, when a gradient touches it."""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from widemax.optim.row_optimizer import AtLeast0, Group, RowOptimizer, Seed, Share, State, optimizers
from widemax.optim.rows import per_row


@optimizers.register("momentum")
class Momentum(RowOptimizer):
    """SGD with momentum; a row's steps without a gradient are applied later, in closed form.

    Every row follows ``u ← momentum·u + lr·g``, ``w ← w − u`` at every step. Over k steps without a gradient
    that is a geometric series::

        w ← w − u · momentum·(1 − momentumᵏ)/(1 − momentum),    u ← momentumᵏ·u

    so the result is that of dense SGD, at the cost of the rows touched. The learning rate enters the velocity
    when the gradient does; at a constant rate this is ``torch.optim.SGD``. ``catch_up()`` applies
    the deferred steps of all rows.

    Use: where the result of plain SGD with momentum is wanted, as in a recipe from a paper. One learning rate
    for frequent and rare rows suits wide heads badly: take "rowwise_adagrad" or "lazy_adam".

    Args:
        momentum: factor of the velocity a step, in [0, 1).

    Raises:
        ConfigError: a number out of its range.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 1))
        >>> optimizer = Momentum([weight], lr=1.0, momentum=0.5)
        >>> for row in (0, 1):
        ...     weight.grad = torch.sparse_coo_tensor([[row]], [[1.0]], (2, 1), check_invariants=True)
        ...     optimizer.step()
        >>> optimizer.catch_up()
        >>> weight.data.flatten()
        tensor([-1.5000, -1.0000])

    Source: Polyak (1964); in the form of Sutskever et al., "On the importance of initialization and momentum
    in deep learning" (ICML 2013), equations 1 and 2.
    """

    def __init__(self, params: ParamsT, *, lr: AtLeast0 = 0.1, momentum: Share = 0.9, seed: Seed = 0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "seed": seed})

    def new_state(self, parameter: Tensor, group: Group) -> State:
        last_step_R = torch.zeros(len(parameter), dtype=torch.int64, device=parameter.device)
        return {"velocity": parameter.new_zeros(parameter.shape), "step": 0, "last_step": last_step_R}

    def update(self, weight: Tensor, grad: Tensor, state: State, group: Group) -> None:
        self.settle(weight, state, group)
        state["step"] += 1
        state["last_step"].fill_(state["step"])
        weight.sub_(state["velocity"].mul_(group["momentum"]).add_(grad, alpha=group["lr"]))

    def settle(self, weight: Tensor, state: State, group: Group) -> None:
        momentum = group["momentum"]
        left_R = momentum ** (state["step"] - state["last_step"]).double()
        deferred_R = (1 - left_R) * (momentum / (1 - momentum))
        weight.addcmul_(state["velocity"], per_row(deferred_R, weight), value=-1)
        state["velocity"].mul_(per_row(left_R, weight))
        state["last_step"].fill_(state["step"])
