"""How hidden vectors are compared with class weights: dot products, cosines, cosines with margins."""

from widemax.heads.scores.adaface import AdaFace
from widemax.heads.scores.arcface import ArcFace
from widemax.heads.scores.base import Score, build_score, scores
from widemax.heads.scores.cosface import CosFace
from widemax.heads.scores.cosine import Cosine
from widemax.heads.scores.dot import Dot

__all__ = ["AdaFace", "ArcFace", "CosFace", "Cosine", "Dot", "Score", "build_score", "scores"]
