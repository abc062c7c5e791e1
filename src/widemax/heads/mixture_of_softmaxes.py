"""Several softmaxes over the same classes, mixed.

Shapes: B rows, K components, C classes, D hidden, N asked, P labels, Q = P·K labels of all components.
"""

from typing import final

import torch
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.heads.base import Dim, heads
from widemax.heads.labels import no_pairs
from widemax.heads.normalized import NormalizedHead, SoftmaxLoss, Temperature
from widemax.kernels import Pairs, budget, linear_cross_entropy, stream_classes
from widemax.numerics import logsumexp
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.ids import checked_ids
from widemax.options import AtLeast1


@final
@heads.register("mixture_of_softmaxes")
class MixtureOfSoftmaxesHead(NormalizedHead):
    """P(c | h) = Σ_k π_k(h) softmax(W tanh(V_k h + v_k) + bias)_c with π(h) = softmax(U h).

    The log-probabilities of a linear head, as a matrix over contexts and classes, have rank D + 1 at most;
    these have any. It costs K times a linear head. The loss streams over tiles of classes when [B·K, C]
    logits would be large; several labels a row cost as much as several rows.

    Use: for language models with short hidden vectors, where one softmax cannot express all contexts. It
    costs K times "exact": try longer hidden vectors there first.

    Args:
        num_components: K.
        bias: whether classes have biases, the same in every component.

    Source: Yang et al. 2018, "Breaking the Softmax Bottleneck: A High-Rank RNN Language Model", equation 3.

    Example:
        >>> head = MixtureOfSoftmaxesHead(1000, 16, num_components=3)
        >>> hidden = torch.ones(1, 16)
        >>> head.log_probs(hidden, torch.arange(1000)).exp().sum().round(decimals=4)
        tensor(1.)
    """

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        loss: SoftmaxLoss = "cross_entropy",
        num_components: AtLeast1 = 4,
        bias: bool = True,
    ) -> None:
        classes = Classes.of(num_classes)
        num_classes = classes.num
        super().__init__(num_classes, dim, loss=loss, classes_per_label=num_classes)
        self.num_components = num_components
        self.weight = self.normal(num_classes, dim)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        self.mixture_weight = self.normal(num_components, dim)
        self.component_weight = self.normal(num_components * dim, dim)
        self.component_bias = nn.Parameter(torch.zeros(num_components * dim))
        if self.bias is not None and classes.counts is not None:
            with torch.no_grad():
                masses_C = classes.counts.double() + 1
                self.bias.copy_(masses_C.log() - masses_C.sum().log())

    @property
    def rows_at_once(self) -> int:
        """How many rows are answered together, so that their components fit in memory."""
        return max(1, budget.HELD_ELEMENTS // (self.num_components * self.num_classes))

    def label_log_probs(self, hidden: Tensor, pairs: Pairs, temperature: Temperature) -> Tensor:
        log_mixture_BK, components_BKD, bias_C = self._components(hidden, temperature)
        components_QD = components_BKD[pairs.rows_P].flatten(0, 1)
        ids_Q = pairs.ids_P.repeat_interleave(self.num_components)
        loss_Q = linear_cross_entropy(components_QD, self.weight, bias_C, ids_Q)
        return logsumexp(log_mixture_BK[pairs.rows_P] - loss_Q.view(-1, self.num_components))

    def all_log_probs(self, hidden: Tensor, temperature: Temperature) -> Tensor:
        log_mixture_BK, components_BKD, bias_C = self._components(hidden, temperature)
        logits_BKC = widened_tensor(nn.functional.linear(components_BKD, self.weight, bias_C))
        return logsumexp(logits_BKC.log_softmax(2) + log_mixture_BK[..., None], axis=1)

    @torch.no_grad()
    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        class_ids = checked_ids(class_ids, self.num_classes, "class_ids", hidden)
        if class_ids.shape[-1] >= self.num_classes:
            return super().log_probs(hidden, class_ids)
        log_mixture_BK, components_BKD, bias_C = self._components(hidden, self.calibration_temperature)
        nothing = no_pairs(hidden.device)
        found = stream_classes(components_BKD.flatten(0, 1), self.weight, bias_C, nothing, nothing, k=0)
        if class_ids.ndim == 1:
            logits_BKN = widened_tensor(components_BKD @ self.weight[class_ids].T)
        else:
            logits_BKN = widened_tensor(torch.einsum("bkd,bnd->bkn", components_BKD, self.weight[class_ids]))
        if bias_C is not None:
            logits_BKN = logits_BKN + bias_C[class_ids].unsqueeze(-2)
        log_probs_BKN = found.log_probs(logits_BKN.flatten(0, 1)).view_as(logits_BKN)
        return logsumexp(log_probs_BKN + log_mixture_BK[..., None], axis=1)

    def _components(
        self, hidden_BD: Tensor, temperature: Temperature
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """[B, K] log mixture weights; [B, K, D] hidden vectors and [C] biases, divided by the temperature."""
        log_mixture_BK = widened_tensor(hidden_BD @ self.mixture_weight.T / temperature).log_softmax(1)
        components = nn.functional.linear(hidden_BD, self.component_weight, self.component_bias).tanh()
        components_BKD = components.view(-1, self.num_components, self.dim) / temperature
        return log_mixture_BK, components_BKD, None if self.bias is None else self.bias / temperature
