"""Adam that updates a row lazily, when a gradient touches it."""

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from widemax import native
from widemax.optim.row_optimizer import AtLeast0, Group, RowOptimizer, Seed, Share, State, optimizers
from widemax.optim.rows import per_row


@optimizers.register("lazy_adam")
class LazyAdam(RowOptimizer):
    """AdamW that moves a row only when a gradient touches it, and then applies its deferred weight decay.

    At step t, for a row last touched at step s and now touched for the n-th time::

        w ← w · Π_{i=s+1..t} (1 − lr_i·weight_decay)
        m ← beta1·m + (1 − beta1)·g,    v ← beta2·v + (1 − beta2)·g²
        w ← w − lr_t · (m / (1 − beta1ⁿ)) / (sqrt(v / (1 − beta2ⁿ)) + eps)

    The bias corrections count the row's own touches n, not the steps t: the moments of a row have averaged n
    gradients, so a class first seen at step 10,000 takes a first step of size lr, as at step 1. A row touched
    at every step follows ``torch.optim.AdamW``. The product over skipped steps is kept as a float64 sum of
    logarithms, so it is exact under any schedule of lr. ``catch_up()`` applies the
    deferred decay of all rows.

    Use: for dense layers beside wide tables, and where weight decay must reach every row. It keeps two
    numbers for each weight; where memory is short take "rowwise_adagrad".

    Args:
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment, 0 or more.
        weight_decay: decoupled weight decay; lr·weight_decay in [0, 1).

    Raises:
        ConfigError: a number out of its range.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2, 1))
        >>> optimizer = LazyAdam([weight], lr=0.1, weight_decay=1.0)
        >>> weight.grad = torch.sparse_coo_tensor([[1]], [[5.0]], (2, 1), check_invariants=True)
        >>> optimizer.step()
        >>> weight.data.flatten()  # the second row decayed to 0.9 and took one step of 0.1
        tensor([1.0000, 0.8000])
        >>> optimizer.catch_up()
        >>> weight.data.flatten()
        tensor([0.9000, 0.8000])

    Source: Kingma, Ba, "Adam" (ICLR 2015), algorithm 1; Loshchilov, Hutter, "Decoupled Weight Decay
    Regularization" (ICLR 2019), algorithm 2; lazy rows as in torch.optim.SparseAdam, which corrects by steps
    instead of touches.
    """

    has_weight_decay = True

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: AtLeast0 = 1e-3,
        beta1: Share = 0.9,
        beta2: Share = 0.999,
        eps: AtLeast0 = 1e-8,
        weight_decay: AtLeast0 = 0.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "beta1": beta1,
                "beta2": beta2,
                "eps": eps,
                "weight_decay": weight_decay,
                "seed": seed,
            },
        )

    def new_state(self, parameter: Tensor, group: Group) -> State:
        num_rows = len(parameter)
        return {
            "exp_avg": parameter.new_zeros(parameter.shape),
            "exp_avg_sq": parameter.new_zeros(parameter.shape),
            "touches": torch.zeros(num_rows, dtype=torch.int32, device=parameter.device),
            "log_decay": 0.0,  # of a row without deferred decay
            "applied_log_decay": torch.zeros(num_rows, dtype=torch.float64, device=parameter.device),
        }

    def update(self, weight: Tensor, grad: Tensor, state: State, group: Group) -> None:
        state["log_decay"] += math.log1p(-group["lr"] * group["weight_decay"])
        self.settle(weight, state, group)
        beta1, beta2 = group["beta1"], group["beta2"]
        touches = state["touches"].add_(1)
        if weight.is_cpu and weight.is_contiguous() and len(touches) and (touches == touches[0]).all():
            # torch's own kernel makes one pass over the weights in place of the eight below.
            torch._fused_adamw_(
                [weight],
                [grad.contiguous()],
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [],
                [touches[0].float()],
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                eps=group["eps"],
                weight_decay=0.0,
                amsgrad=False,
                maximize=False,
            )
            return
        moment = state["exp_avg"].lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        root_R = _bias_correction(beta2, touches).sqrt_()
        scale = square.sqrt().div_(per_row(root_R, weight)).add_(group["eps"])
        scale.mul_(per_row(_bias_correction(beta1, touches), weight))
        weight.addcdiv_(moment, scale, value=-group["lr"])

    def update_in_place(self, parameter: Tensor, rows_R: Tensor | None, grad_R: Tensor, group: Group) -> bool:
        state = self.state[parameter]
        moments = state["exp_avg"], state["exp_avg_sq"]
        decays = group["weight_decay"] or state["log_decay"]
        if rows_R is None or decays or parameter.dim() != 2 or not native.takes(parameter, *moments, grad_R):
            return False
        native.lazy_adam(
            *(parameter, moments, state["touches"], rows_R, grad_R),
            rate=group["lr"],
            betas=(group["beta1"], group["beta2"]),
            eps=group["eps"],
        )
        return True

    def settle(self, weight: Tensor, state: State, group: Group) -> None:
        if state["log_decay"]:
            deferred_R = state["log_decay"] - state["applied_log_decay"]
            weight.mul_(per_row(deferred_R.exp_(), weight))
            state["applied_log_decay"].fill_(state["log_decay"])


def _bias_correction(beta: float, touches_R: Tensor) -> Tensor:
    """1 − betaⁿ, by expm1 because beta2 near 1 would cancel, in float64."""
    log_beta = math.log(beta) if beta else -math.inf
    return torch.expm1(touches_R.double() * log_beta).neg_()
