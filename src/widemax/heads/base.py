"""What every head answers, and the registry of heads. Shapes: B rows, D hidden, C classes, N asked."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from widemax.classes import MOVED, Classes
from widemax.heads.answers import Answers, TopK
from widemax.heads.labels import Labels, SeveralLabels
from widemax.kernels import topk_by_id
from widemax.losses.base import Reduction
from widemax.numerics import log_sigmoid
from widemax.numerics.arrays import widened_tensor
from widemax.registry import Described, Registry

Normalizer = Literal["softmax", "sigmoid"]
Dim = Annotated[int, Field(ge=1)]
"""D, the length of a hidden vector."""


class Head(Described, nn.Module, ABC):
    """Turns hidden vectors into a training loss, and into exact answers about all classes.

    The buffer ``calibration_temperature`` (1 until fitted) divides the logits of every answer, never those
    of the loss.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.

    Attributes:
        has_weight_rows: whether it is a :class:`~widemax.heads.LinearHead`, with one weight row a class.
        training_options: the options that training chooses for a softmax where a config names none.
        normalizer: what makes logits probabilities: "softmax" over all classes, or a "sigmoid" a class.
        generator: the randomness of training.
    """

    has_weight_rows: ClassVar[bool] = False
    training_options: ClassVar[Mapping[str, Any]] = {}
    normalizer: Normalizer
    calibration_temperature: Tensor

    def __init__(self, num_classes: int | Classes, dim: int) -> None:
        super().__init__()
        self.num_classes = Classes.of(num_classes).num
        self.dim = dim
        self.register_buffer("calibration_temperature", torch.ones(()))
        self.generator = torch.Generator(device="cpu")
        self.seed(int(torch.randint(2**62, (), device="cpu")))

    def extra_repr(self) -> str:
        return ", ".join([f"{self.num_classes} classes", f"dim {self.dim}", *self.described_options()])

    def seed(self, seed: int) -> None:
        """Start the randomness of training anew."""
        self.generator.manual_seed(seed)

    def training_state(self) -> dict[str, Tensor]:
        """What training goes on from beside the parameters, for a checkpoint."""
        return {"generator": self.generator.get_state()}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`training_state`."""
        self.generator.set_state(state["generator"])

    @abstractmethod
    def forward(
        self,
        hidden: Tensor,
        labels: Labels,
        *,
        sample_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """The training loss in nats, in float32 at least.

        Rows to be ignored, such as padding, are left out: ``head(hidden[kept], labels[kept])``.

        Args:
            hidden: [B, D] hidden vectors.
            labels: [B] class ids, or several a row.
            sample_weight: [B] weight of each row.
            reduction: "mean", "sum" or "none", as in :func:`widemax.losses.reduce_loss`.

        Raises:
            LabelError: a class id outside [0, C); checked on CPU only, as it would stall an accelerator, and
                not in a compiled function.
            ShapeError: not one label, or list of labels, a row; labels that are no whole numbers; not one
                weight a row.
        """

    @abstractmethod
    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        """Logits of all classes [B, C], of the classes ``class_ids`` [N] for every row [B, N], or of each
        row's own classes ``class_ids`` [B, N]; they have a gradient, which is dense.

        They are divided by ``calibration_temperature``, and take the memory of the result at least.
        """

    @abstractmethod
    def log_partition(self, hidden: Tensor) -> Tensor:
        """[B] log Σ_j exp(s_bj) over all classes."""

    @abstractmethod
    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        """Log-probabilities in nats of ``class_ids``, [N] or [B, N] as in :meth:`logits`."""

    @abstractmethod
    def topk(self, hidden: Tensor, k: int, *, exclude: SeveralLabels | None = None) -> TopK:
        """The k best classes of each row (all classes if k is larger), equal logits by ascending class id.

        Args:
            hidden: [B, D] hidden vectors.
            k: how many classes.
            exclude: classes of each row that may not be ranked; ids below 0 are passed over. Probabilities
                are still taken among all classes.
        """

    @abstractmethod
    def answer(
        self, hidden: Tensor, labels: Labels, *, k: int, exclude: SeveralLabels | None = None
    ) -> Answers:
        """Top k, log-partition, and every label's logit, log-probability and rank, in one pass.

        Args:
            hidden: [B, D] hidden vectors.
            labels: [B] class ids or several a row; −1 stands for a class never seen in training.
            k: how many classes to list.
            exclude: as in :meth:`topk`; a label of the row is ranked even if it is excluded.
        """

    def _traced_topk(self, hidden: Tensor, k: int) -> TopK:
        """Top k without a step that depends on values, for torch.compile and torch.export."""
        logits_BC = self.logits(hidden)
        logits_BK, ids_BK = topk_by_id(logits_BC, min(k, self.num_classes))
        logits_BK = widened_tensor(logits_BK)
        if self.normalizer == "sigmoid":
            return TopK(ids_BK, logits_BK, log_sigmoid(logits_BK))
        log_partition_B1 = widened_tensor(logits_BC).logsumexp(1, keepdim=True)
        return TopK(ids_BK, logits_BK, logits_BK - log_partition_B1)


heads: Registry[type[Head]] = Registry(
    "head",
    "widemax.heads",
    moved={**MOVED, "ignore_index": "leave such rows out: head(hidden[kept], labels[kept])."},
)
