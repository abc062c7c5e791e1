"""Attention and Transformer blocks, decoding step by step, and subwords."""

from widemax.sequences.beam import Hypotheses, beam_search
from widemax.sequences.dropout import dropout
from widemax.sequences.layers import FeedForward, Transformer, TransformerLayer
from widemax.sequences.multi_head import KeyValueCache, MultiHeadAttention
from widemax.sequences.positions import rotary, sinusoidal
from widemax.sequences.subwords import Subwords

__all__ = [
    "FeedForward",
    "Hypotheses",
    "KeyValueCache",
    "MultiHeadAttention",
    "Subwords",
    "Transformer",
    "TransformerLayer",
    "beam_search",
    "dropout",
    "rotary",
    "sinusoidal",
]
