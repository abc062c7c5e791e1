"""The head with several centers a class, of which the nearest counts.

Shapes: B rows, b rows of one chunk, C classes, K centers a class, D hidden, P labels.
"""

from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.heads.base import Dim, heads
from widemax.heads.normalized import NormalizedHead, SoftmaxLoss, Temperature
from widemax.heads.scores import Score, build_score
from widemax.kernels import Pairs
from widemax.losses import sub_center_cosines
from widemax.numerics import log_softmax
from widemax.options import AtLeast1
from widemax.registry import Spec


@final
@heads.register("sub_center")
class SubCenterHead(NormalizedHead):
    """Softmax over the cosines to the nearest of K centers of each class, with a margin in training.

    s_bc = max_k cos(h_b, w_ck) / temperature, and P = softmax(s). In training a row's own label scores with
    the margin of ``score`` first. Noisy examples of a class gather at centers of their own.

    Use: faces and other classes whose labels are noisy, or that come in several looks. Every step takes all
    K·C centers and holds their cosines, so some hundred thousand classes are the limit. Classes of one look
    each need only an exact or sampled head with the same score.

    Args:
        num_centers: K.
        score: "cosine", or one with a margin.
        temperature: divides the cosines.

    Raises:
        ConfigError: a score that is no cosine.

    Example:
        >>> head = SubCenterHead(10, 4, num_centers=2)
        >>> head.log_probs(torch.ones(1, 4), torch.arange(10)).exp().sum().round(decimals=4)
        tensor(1.)

    Source: Deng et al. 2020, "Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces",
    §3.2.
    """

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        loss: SoftmaxLoss = "cross_entropy",
        num_centers: AtLeast1 = 3,
        score: Spec | type[Score] | Score = "arcface",
        temperature: Annotated[float, Field(gt=0.0)] = 1 / 64,
    ) -> None:
        num_classes = Classes.of(num_classes).num
        # One label takes all classes, so label_log_probs is asked in training only.
        super().__init__(num_classes, dim, loss=loss, classes_per_label=num_classes)
        self.score = build_score(score)
        if not self.score.is_cosine:
            raise ConfigError(f"score must be a cosine, with a margin or without; got {score!r}.")
        self.temperature = temperature
        self.weight = self.normal(num_classes, num_centers, dim)

    def label_log_probs(self, hidden: Tensor, pairs: Pairs, temperature: Temperature) -> Tensor:
        cosines_BC = sub_center_cosines(hidden, self.weight)
        if self.score.has_margin:
            norms_B = torch.linalg.vector_norm(hidden, dim=1)
            label_cosines_P = self.score.of_labels(cosines_BC[tuple(pairs)], norms_B, pairs.rows_P)
            cosines_BC = cosines_BC.index_put((pairs.rows_P, pairs.ids_P), label_cosines_P)
        log_probs_BC: Tensor = log_softmax(cosines_BC / (self.temperature * temperature))
        return log_probs_BC[pairs.rows_P, pairs.ids_P]

    def all_log_probs(self, hidden: Tensor, temperature: Temperature) -> Tensor:
        cosines_bC = sub_center_cosines(hidden, self.weight)
        log_probs_bC: Tensor = log_softmax(cosines_bC / (self.temperature * temperature))
        return log_probs_bC
