"""Adagrad with one accumulator a row."""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from widemax import native
from widemax.optim.row_optimizer import AtLeast0, Group, RowOptimizer, Seed, State, optimizers
from widemax.optim.rows import per_row


@optimizers.register("rowwise_adagrad")
class RowwiseAdagrad(RowOptimizer):
    """Adagrad that remembers one number a row of a matrix: 4 bytes a class where Adagrad needs 4·D.

    ::

        a_r ← a_r + mean_d g_rd²,    w_r ← (1 − lr·weight_decay)·w_r − lr·g_r / (sqrt(a_r) + eps)

    Parameters that are no matrices (a bias), and groups with ``rowwise=False``, use ordinary Adagrad with one
    accumulator an entry; small dense matrices (an MLP, a narrow head) train better so. Weight decay acts on
    the rows a step touches only: every row of a dense gradient, and those a sparse one holds, so that a rare
    class is decayed as often as it is updated. ``LazyAdam`` decays every row at every step.

    Use: the first choice for wide embeddings and heads: it keeps the least memory, and rare rows take large
    steps. Its first steps throw deep dense layers far off: for those take "lazy_adam".

    Args:
        eps: added to the root of the accumulator, 0 or more.
        weight_decay: decoupled weight decay of the touched rows; lr·weight_decay in [0, 1).
        rowwise: one accumulator a row for matrices.

    Raises:
        ConfigError: a number out of its range.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(3, 2))
        >>> weight.grad = torch.sparse_coo_tensor([[1]], [[3.0, 4.0]], (3, 2), check_invariants=True)
        >>> RowwiseAdagrad([weight], lr=1.0).step()
        >>> weight.data[1] * 12.5**0.5  # the mean of 9 and 16 is 12.5
        tensor([-3., -4.])

    Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods" (JMLR 2011), figure 1; the row-wise
    accumulator as in Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep
    Learning Recommendation Models" (ISCA 2022).
    """

    has_weight_decay = True
    has_rowwise = True

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: AtLeast0 = 0.1,
        eps: AtLeast0 = 1e-10,
        weight_decay: AtLeast0 = 0.0,
        rowwise: bool = True,
        seed: Seed = 0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "eps": eps, "weight_decay": weight_decay, "rowwise": rowwise, "seed": seed}
        )

    def new_state(self, parameter: Tensor, group: Group) -> State:
        rowwise = group["rowwise"] and parameter.dim() == 2
        return {"sum": parameter.new_zeros(len(parameter) if rowwise else parameter.shape)}

    def update(self, weight: Tensor, grad: Tensor, state: State, group: Group) -> None:
        accumulator = state["sum"]
        if group["weight_decay"]:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
        if accumulator.dim() < weight.dim():
            # vector_norm squares and sums in one pass, without a second tensor of the gradient's size.
            accumulator.add_(torch.linalg.vector_norm(grad, dim=1).square_(), alpha=1 / grad.shape[1])
            scale = per_row(accumulator.sqrt().add_(group["eps"]), weight)
        else:
            accumulator.addcmul_(grad, grad)
            scale = accumulator.sqrt().add_(group["eps"])
        weight.addcdiv_(grad, scale, value=-group["lr"])

    def update_in_place(self, parameter: Tensor, rows_R: Tensor | None, grad_R: Tensor, group: Group) -> bool:
        accumulator, rate = self.state[parameter]["sum"], group["lr"]
        if not native.takes_weights(parameter, accumulator, grad_R):
            return False
        if rows_R is None:
            rows_R = torch.arange(len(parameter))
        kept = 1 - rate * group["weight_decay"]
        native.adagrad(
            *(parameter, accumulator, rows_R, grad_R, self._rounding(parameter)),
            rate=rate,
            eps=group["eps"],
            kept=kept,
        )
        return True
