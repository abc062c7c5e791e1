"""Class weights, their loss and the questions they answer: logits, probabilities, top k, ranks."""

from typing import Any

from widemax.heads.adaptive import AdaptiveHead
from widemax.heads.answers import Answers, TopK
from widemax.heads.base import CountingHead, Head, heads
from widemax.heads.blend import BlendHead
from widemax.heads.counts import CountsHead
from widemax.heads.exact import ExactHead
from widemax.heads.exact_loss import exact_sigmoid_loss, exact_softmax_loss
from widemax.heads.label_tree import LabelTreeHead
from widemax.heads.labels import Labels, SeveralLabels
from widemax.heads.linear import LinearHead
from widemax.heads.mixture_of_softmaxes import MixtureOfSoftmaxesHead
from widemax.heads.sampled import SampledHead
from widemax.heads.sampled_loss import CORRECTIONS, Correction, sampled_sigmoid_loss, sampled_softmax_loss
from widemax.heads.scores import Score, build_score, scores
from widemax.heads.sub_center import SubCenterHead
from widemax.heads.tree import TreeHead
from widemax.heads.two_level import TwoLevelHead
from widemax.losses import losses
from widemax.registry import Registry
from widemax.samplers import samplers

__all__ = [
    "CORRECTIONS",
    "PARTS",
    "AdaptiveHead",
    "Answers",
    "BlendHead",
    "Correction",
    "CountingHead",
    "CountsHead",
    "ExactHead",
    "Head",
    "LabelTreeHead",
    "Labels",
    "LinearHead",
    "MixtureOfSoftmaxesHead",
    "SampledHead",
    "Score",
    "SeveralLabels",
    "SubCenterHead",
    "TopK",
    "TreeHead",
    "TwoLevelHead",
    "build_score",
    "exact_sigmoid_loss",
    "exact_softmax_loss",
    "heads",
    "sampled_sigmoid_loss",
    "sampled_softmax_loss",
    "scores",
]

PARTS: dict[str, Registry[Any]] = {"loss": losses, "score": scores, "sampler": samplers}
"""The options of heads that name members of rooms."""
