"""Translation of texts, line by line: an encoder and a decoder whose next piece a softmax chooses."""

from widemax.translation.pairs import Pairs, read_lines
from widemax.translation.transformer import EncoderDecoder
from widemax.translation.translator import Translation, Translator

__all__ = ["EncoderDecoder", "Pairs", "Translation", "Translator", "read_lines"]
