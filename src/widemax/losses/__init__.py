"""Logits and labels to one loss a row, in nats; ``reduce_loss`` is the only place that divides."""

from widemax.losses.adaface import adaface, adaface_margin, adaface_quality
from widemax.losses.arcface import arcface, arcface_margin
from widemax.losses.base import check_labels, losses, reduce_loss, row_weights
from widemax.losses.binary_cross_entropy import binary_cross_entropy
from widemax.losses.binary_focal import binary_focal
from widemax.losses.bpr import bpr
from widemax.losses.cosface import cosface, cosface_margin
from widemax.losses.cosine_softmax import cosine_softmax
from widemax.losses.crammer_singer import crammer_singer
from widemax.losses.cross_entropy import cross_entropy
from widemax.losses.entmax15_loss import entmax15_loss
from widemax.losses.focal import focal
from widemax.losses.gbce import gbce, gbce_beta
from widemax.losses.info_nce import info_nce
from widemax.losses.marginal_softmax import marginal_softmax
from widemax.losses.multi_positive_softmax import multi_positive_softmax
from widemax.losses.one_vs_rest_hinge import one_vs_rest_hinge
from widemax.losses.poly import poly
from widemax.losses.sparsemax_loss import sparsemax_loss
from widemax.losses.sub_center import sub_center_cosines
from widemax.losses.weston_watkins import weston_watkins

__all__ = [
    "adaface",
    "adaface_margin",
    "adaface_quality",
    "arcface",
    "arcface_margin",
    "binary_cross_entropy",
    "binary_focal",
    "bpr",
    "check_labels",
    "cosface",
    "cosface_margin",
    "cosine_softmax",
    "crammer_singer",
    "cross_entropy",
    "entmax15_loss",
    "focal",
    "gbce",
    "gbce_beta",
    "info_nce",
    "losses",
    "marginal_softmax",
    "multi_positive_softmax",
    "one_vs_rest_hinge",
    "poly",
    "reduce_loss",
    "row_weights",
    "sparsemax_loss",
    "sub_center_cosines",
    "weston_watkins",
]
