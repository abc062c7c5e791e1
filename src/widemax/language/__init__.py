"""Language models: the next word, piece or character of a text, chosen by a softmax over all of them."""

from widemax.language.decoder import Decoder
from widemax.language.lstm import LSTM
from widemax.language.model import LanguageModel, TokenAnswers
from widemax.language.sampling import sample
from widemax.language.tokens import Stream, Vocabulary, read_lines
from widemax.language.transformer import TransformerDecoder

__all__ = [
    "LSTM",
    "Decoder",
    "LanguageModel",
    "Stream",
    "TokenAnswers",
    "TransformerDecoder",
    "Vocabulary",
    "read_lines",
    "sample",
]
