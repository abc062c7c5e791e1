"""Features to hidden vectors; one file an encoder."""

from widemax.encoders.bag import TableRows, bag_sum
from widemax.encoders.base import Encoder, encoders
from widemax.encoders.features import Features, Ragged, RaggedTensor, concatenate, num_rows, take, to_tensors
from widemax.encoders.history import HistoryEncoder
from widemax.encoders.image import ImageEncoder
from widemax.encoders.mixed import MixedEncoder, default_encoder
from widemax.encoders.pretrained import PretrainedEncoder
from widemax.encoders.sequence import SequenceEncoder
from widemax.encoders.sparse import SparseEncoder
from widemax.encoders.store import FeatureStore, FeatureWriter
from widemax.encoders.table import TableEncoder
from widemax.encoders.text import TextEncoder
from widemax.encoders.tower import ClassTower
from widemax.encoders.vector import VectorEncoder

__all__ = [
    "ClassTower",
    "Encoder",
    "FeatureStore",
    "FeatureWriter",
    "Features",
    "HistoryEncoder",
    "ImageEncoder",
    "MixedEncoder",
    "PretrainedEncoder",
    "Ragged",
    "RaggedTensor",
    "SequenceEncoder",
    "SparseEncoder",
    "TableEncoder",
    "TableRows",
    "TextEncoder",
    "VectorEncoder",
    "bag_sum",
    "concatenate",
    "default_encoder",
    "encoders",
    "num_rows",
    "take",
    "to_tensors",
]
