"""The head that trains on sampled classes. Shapes: B rows, D hidden, C classes, P labels."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal, final

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.heads.base import Dim, heads
from widemax.heads.labels import Labels, training_pairs
from widemax.heads.linear import LinearHead
from widemax.heads.sampled_loss import Correction, sampled_sigmoid_loss, sampled_softmax_loss
from widemax.heads.scores import Score
from widemax.kernels import gather_rows, not_traced
from widemax.losses.base import loss_name
from widemax.options import AtLeast1
from widemax.registry import Spec
from widemax.samplers import Query, Sampler, build_sampler

SampledLoss = Annotated[
    Literal["cross_entropy", "binary_cross_entropy", "multi_positive_softmax"], BeforeValidator(loss_name)
]


@final
@heads.register("sampled")
class SampledHead(LinearHead):
    """The loss over the labels and a shared draw of classes; a step costs the classes drawn, not all of them.

    ℓ_b = log Σ_y exp(s_y − log q_y) − (s_t − log q_t) over the label t and the candidates y, whose expected
    counts are q_y: that is the correction "conditional"; the losses below have the others.

    Cross-entropy is :func:`~widemax.heads.sampled_softmax_loss`, which is decoupled as the loss
    "multi_positive_softmax"; binary cross-entropy is :func:`~widemax.heads.sampled_sigmoid_loss`. Weight and
    bias receive sparse gradients over the rows used.

    Use: for so many classes that a step over all of them is too slow or too large, which ``widemax plan``
    tells. Where "exact" is affordable take that, since its gradient has no noise. Where training needs exact
    probabilities of single classes take "two_level" or "tree".

    Args:
        num_classes: C, or ``Classes`` with their counts: these set the first biases, and the sampler
            "frequency" needs them.
        loss: "cross_entropy" for exactly one right class, "binary_cross_entropy" for any number,
            "multi_positive_softmax" for several that should all rank above the others.
        temperature: divides the logits, before any correction.
        num_sampled: draws a batch.
        sampler: a sampler, the name of one, or a table with its kind and options.
        correction: "none", "conditional", "importance" or "refined"; without one "conditional" for
            softmax losses and "importance" for binary cross-entropy.
        sparse: whether weight and bias receive sparse gradients. Dense ones take any optimizer, gradient
            clipping and distributed training, and the memory of another weight.

    Source: Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine Translation", §3;
    An et al. 2022, "Killing Two Birds with One Stone" (Partial FC: uniform sampling with margins).

    Example:
        >>> import torch
        >>> head = SampledHead(1_000_000, 8, num_sampled=64, sampler="log_uniform")
        >>> head(torch.ones(2, 8), torch.tensor([3, 999_999])).backward()
        >>> head.weight.grad.is_sparse
        True
    """

    waits = frozenset({"unique", "repeat"})

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        weight: nn.Parameter | nn.Module | None = None,
        *,
        loss: SampledLoss = "cross_entropy",
        temperature: Annotated[float, Field(gt=0.0)] = 1.0,
        bias: bool = True,
        score: Spec | type[Score] | Score = "dot",
        num_sampled: AtLeast1 = 8192,
        sampler: Spec | type[Sampler] | Sampler = "frequency",
        correction: Correction | None = None,
        sparse: bool = True,
    ) -> None:
        super().__init__(
            num_classes,
            dim,
            weight,
            normalizer="sigmoid" if loss == "binary_cross_entropy" else "softmax",
            temperature=temperature,
            bias=bias,
            score=score,
        )
        self.is_decoupled = loss == "multi_positive_softmax"
        softmax_loss = partial(sampled_softmax_loss, decoupled=self.is_decoupled)
        is_softmax = self.normalizer == "softmax"
        self.sampled_loss: Callable[..., Tensor] = softmax_loss if is_softmax else sampled_sigmoid_loss
        self.num_sampled = num_sampled
        self.sampler_spec = sampler
        self.sparse = sparse
        # What a sampler keeps follows the device of its generator, and is no buffer to be filled later.
        with torch.device("cpu"):
            self.sampler = build_sampler(sampler, num_classes)
        self.correction: Correction = correction or (
            "conditional" if self.normalizer == "softmax" else "importance"
        )

    @not_traced
    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        pairs = training_pairs(labels, hidden, self.num_classes)
        if not len(hidden):
            # There is nothing to draw for, and some samplers follow the rows.
            weight_PD, bias_P = self._rows(pairs.ids_P)
            loss_B = (hidden @ weight_PD.T).sum(1)
            return loss_B if bias_P is None else loss_B + bias_P.sum()
        query = Query(self.score.scaled(hidden.detach()) / self.temperature, self.scored_rows)
        ids_P = pairs.ids_P.to(self.generator.device)
        candidates = self.sampler.draw(ids_P, self.num_sampled, generator=self.generator, query=query)
        candidates = candidates.to(hidden.device)
        weight: Tensor = self.own_weight
        bias: Tensor | None = self.bias
        if self.tower is not None:
            # Only the classes in play are made, and stand under their places among these.
            ids_U = torch.unique(torch.cat([candidates.class_ids, pairs.ids_P]))
            weight, bias = self._rows(ids_U)
            candidates = replace(candidates, class_ids=torch.searchsorted(ids_U, candidates.class_ids))
            places_P = torch.searchsorted(ids_U, pairs.ids_P)
            labels = places_P if isinstance(labels, Tensor) else replace(labels, ids_P=places_P)
        return self.sampled_loss(
            *(hidden, weight, labels, candidates),
            bias=bias,
            temperature=self.temperature,
            correction=self.correction,
            score=self.score,
            sparse=self.sparse and self.tower is None,
        )

    def embed(self, class_ids: Tensor) -> Tensor:
        return nn.functional.embedding(class_ids, self.weight, sparse=self.sparse)

    def _rows(self, ids_U: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights [U, D] and biases [U] of distinct classes in their order, with gradients."""
        weight_UD = gather_rows(self.own_weight, ids_U, sparse=self.sparse)
        if self.tower is not None:
            weight_UD = self.tower(weight_UD, ids_U)
        return weight_UD, None if self.bias is None else gather_rows(self.bias, ids_U, sparse=self.sparse)

    def _follow_classes(self, num_classes: int, class_counts: Tensor | None) -> None:
        """A sampler of that many classes, which begins anew to learn what it learns."""
        if isinstance(self.sampler_spec, Sampler):
            raise ConfigError(
                "the classes of a head with a sampler of your own cannot change by themselves; "
                "give the head a name or a table as its sampler."
            )
        self.sampler = build_sampler(self.sampler_spec, Classes(num_classes, class_counts))

    def training_state(self) -> dict[str, Tensor]:
        drawn = {f"sampler.{name}": value for name, value in self.sampler.state().items()}
        return super().training_state() | drawn

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        super().load_training_state(state)
        prefix = "sampler."
        self.sampler.load_state(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )
