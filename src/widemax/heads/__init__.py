"""Class weights, their loss and the questions they answer: logits, probabilities, top k, ranks."""

from widemax.heads.answers import Answers, TopK
from widemax.heads.base import Head, heads
from widemax.heads.exact import ExactHead
from widemax.heads.labels import Labels, SeveralLabels
from widemax.heads.linear import LinearHead
from widemax.heads.sampled import SampledHead

__all__ = [
    "Answers",
    "ExactHead",
    "Head",
    "Labels",
    "LinearHead",
    "SampledHead",
    "SeveralLabels",
    "TopK",
    "heads",
]
