"""Class weights, their loss and the questions they answer: logits, probabilities, top k, ranks."""

from widemax.heads.answers import Answers, TopK
from widemax.heads.base import Head, heads
from widemax.heads.exact import ExactHead
from widemax.heads.labels import Labels, SeveralLabels
from widemax.heads.linear import LinearHead
from widemax.heads.sampled import SampledHead
from widemax.heads.sampled_loss import CORRECTIONS, Correction, sampled_sigmoid_loss, sampled_softmax_loss
from widemax.heads.scores import Score, build_score, scores

__all__ = [
    "CORRECTIONS",
    "Answers",
    "Correction",
    "ExactHead",
    "Head",
    "Labels",
    "LinearHead",
    "SampledHead",
    "Score",
    "SeveralLabels",
    "TopK",
    "build_score",
    "heads",
    "sampled_sigmoid_loss",
    "sampled_softmax_loss",
    "scores",
]
