"""A small problem, and every draw there can be. Shapes: B rows, D hidden, C classes, S sampled."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product
from typing import Literal

import torch
from torch import Tensor

from widemax.losses import binary_cross_entropy, cross_entropy
from widemax.samplers import Candidates
from widemax.testing.report import require_close

Kind = Literal["softmax", "sigmoid"]

ROWS = 4
DIM = 3


@dataclass(frozen=True)
class Problem:
    """Hidden vectors, class weights, biases and labels in float64."""

    loss: Callable[..., Tensor]
    kind: Kind
    hidden_BD: Tensor
    weight_CD: Tensor
    bias_C: Tensor
    labels_B: Tensor

    @classmethod
    def of(cls, loss: Callable[..., Tensor], kind: Kind, *, num_classes: int = 12) -> "Problem":
        generator = torch.Generator().manual_seed(0)
        hidden_BD, weight_CD = (
            torch.randn(size, DIM, dtype=torch.float64, generator=generator) for size in (ROWS, num_classes)
        )
        bias_C = torch.randn(num_classes, dtype=torch.float64, generator=generator)
        labels_B = torch.randint(num_classes, (ROWS,), generator=generator)
        return cls(loss, kind, hidden_BD, weight_CD, bias_C, labels_B)

    def every_label(self, logits_C: Tensor) -> "Problem":
        """One row a class, all with one hidden vector and these logits, each row labeled with its class."""
        labels_C = torch.arange(len(logits_C))
        bias_C = logits_C - self.weight_CD[labels_C] @ self.hidden_BD[0]
        return replace(
            self,
            hidden_BD=self.hidden_BD[:1],
            weight_CD=self.weight_CD[labels_C],
            bias_C=bias_C,
            labels_B=labels_C,
        )

    def with_leaves(self, dtype: torch.dtype = torch.float64) -> tuple["Problem", list[Tensor]]:
        """The same problem, and its hidden vectors, weights and biases, which have gradients."""
        tensors = self.hidden_BD, self.weight_CD, self.bias_C
        leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
        hidden_BD, weight_CD, bias_C = leaves
        return replace(self, hidden_BD=hidden_BD, weight_CD=weight_CD, bias_C=bias_C), leaves

    def __call__(self, ids_S: Tensor, log_count_C: Tensor, correction: str, **options: object) -> Tensor:
        candidates = Candidates(ids_S, log_count_C[ids_S], log_count_C[self.labels_B])
        return self.loss(
            self.hidden_BD.expand(len(self.labels_B), -1),
            self.weight_CD,
            self.labels_B,
            candidates,
            **{"bias": self.bias_C, "correction": correction, **options},
        )

    def gradients(
        self, ids_S: Tensor, log_count_C: Tensor, correction: str, row_weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """[B] losses, and the gradients of their weighted sum side by side."""
        problem, leaves = self.with_leaves()
        loss_B = problem(ids_S, log_count_C, correction)
        total = loss_B.sum() if row_weights is None else loss_B @ row_weights
        found = torch.autograd.grad(total, leaves)
        return loss_B.detach(), torch.cat([grad.to_dense().flatten() for grad in found])

    def full(self) -> tuple[Tensor, Tensor]:
        """[B] losses over all classes, and the gradients of their sum."""
        _, leaves = self.with_leaves()
        hidden_BD, weight_CD, bias_C = leaves
        logits_BC = hidden_BD.expand(len(self.labels_B), -1) @ weight_CD.T + bias_C
        if self.kind == "softmax":
            loss_B = cross_entropy(logits_BC, self.labels_B)
        else:
            loss_B = binary_cross_entropy(
                logits_BC, torch.nn.functional.one_hot(self.labels_B, len(bias_C)).double()
            )
        found = torch.autograd.grad(loss_B.sum(), leaves)
        return loss_B.detach(), torch.cat([grad.flatten() for grad in found])


def require_same_gradients(
    what: str, actual: Sequence[Tensor], expected: Sequence[Tensor], *, cause: str
) -> None:
    """Break the law unless losses and gradients are the same."""
    for of, found, right in zip(("loss", "gradient"), actual, expected, strict=True):
        require_close(f"the {of} {what}", found, right, tolerance=1e-12, cause=cause)


def uneven(num_classes: int) -> Tensor:
    """[C] log expected counts, no two alike."""
    return torch.linspace(0.5, -9.0, num_classes, dtype=torch.float64)


def independent_draws(inclusion_C: Tensor) -> Iterator[tuple[Tensor, float]]:
    """Every set of classes, and how probable it is if each class is included independently."""
    for included in product((False, True), repeat=len(inclusion_C)):
        is_in_C = torch.tensor(included)
        prob = torch.where(is_in_C, inclusion_C, 1 - inclusion_C).prod()
        yield is_in_C.nonzero().flatten(), float(prob)


def repeated_draws(probs_C: Tensor, num_draws: int) -> Iterator[tuple[Tensor, float]]:
    """Every outcome of draws with replacement, sorted, and how probable it is."""
    for ids in combinations_with_replacement(range(len(probs_C)), num_draws):
        ids_S = torch.tensor(ids)
        times_C = ids_S.bincount(minlength=len(probs_C))
        log_ways = math.lgamma(num_draws + 1) - float(torch.lgamma(times_C.double() + 1).sum())
        yield ids_S, math.exp(log_ways + float(times_C.double() @ probs_C.log()))
