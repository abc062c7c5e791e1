"""Texts as one array of code points, and where its words are."""

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from widemax.encoders.hashing import joined

SEPARATOR = "\0"
_WORD, _ALONE, _MARK = 1, 2, 4
_TOKEN_BYTES = bytes(
    code if code > 127 else ord(chr(code).lower()) if chr(code).isalnum() or chr(code) in "_<=>" else ord(" ")
    for code in range(256)
)

# Scripts written without spaces: each character is a word of its own.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Words(NamedTuple):
    """The words of several texts, in order.

    Attributes:
        codes_N: code points of all texts; a separator (0) stands before, between and after them.
        is_word_N: whether the position belongs to a word.
        starts_W: first position of each word.
        ends_W: position after the last of each word.
    """

    codes_N: npt.NDArray[np.uint32]
    is_word_N: npt.NDArray[np.bool_]
    starts_W: npt.NDArray[np.int64]
    ends_W: npt.NDArray[np.int64]


def fold(text: str) -> str:
    """Compatibility normalisation without case: what a reader takes for the same text becomes the same.

    Example:
        >>> fold("ＳＴＲＡẞＥ ﬁn")
        'strasse fin'
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def split_tokens(texts: pa.Array) -> pa.Array:
    """Each text (large_string, no null) as a list of tokens that fold alone as they fold in the text.

    ASCII letters become small ones. A token ends at every ASCII character that is no part of a word, except
    "<", "=" and ">", which alone of them unite with a mark after them.

    Example:
        >>> split_tokens(pa.array(["Tea, coffee & A=B"], pa.large_string())).to_pylist()
        [['tea', 'coffee', 'a=b']]
    """
    offsets_B1 = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(pc.binary_length(texts).to_numpy(), out=offsets_B1[1:])
    buffers = [None, *map(pa.py_buffer, (offsets_B1, joined(texts).translate(_TOKEN_BYTES)))]
    return pc.ascii_split_whitespace(pa.Array.from_buffers(pa.large_string(), len(texts), buffers))


def cut_tokens(text: str) -> list[bytes]:
    """The tokens of one text, as `split_tokens` finds them, in UTF-8.

    Example:
        >>> cut_tokens("Tea, coffee & A=B")
        [b'tea', b'coffee', b'a=b']
    """
    return text.encode().translate(_TOKEN_BYTES).split()


def fold_tokens(tokens: pa.Array) -> str:
    """The folded tokens of `split_tokens`, a separator between any two of them."""
    foreign = pc.invert(pc.string_is_ascii(tokens))
    if pc.any(foreign).as_py():
        folded = fold(joined(tokens.filter(foreign), SEPARATOR).decode()).split(SEPARATOR)
        tokens = pc.replace_with_mask(tokens, foreign, pa.array(folded, pa.large_string()))
    return joined(tokens, SEPARATOR).decode()


@lru_cache(maxsize=1 << 16)
def classify(code: int) -> int:
    """A code point's bits: part of a word (1), a word by itself (2), attached to the one before (4)."""
    character = chr(code)
    category = unicodedata.category(character)
    if category == "So":  # emoji and other pictures
        return _WORD | _ALONE
    if category[0] not in "LMN" and character != "_":
        return 0
    alone = _ALONE if any(first <= code <= last for first, last in _UNSPACED) else 0
    return _WORD | alone | (_MARK if category[0] == "M" else 0)


_ASCII_KINDS = np.array([classify(code) for code in range(128)], np.uint8)


def find_words(joined: str) -> Words:
    """Finds the words in texts joined by separators.

    A word is a longest run of letters, marks, digits and underscores. In scripts without spaces every
    character with its marks is a word, and so is every emoji.

    Args:
        joined: folded texts, a separator between any two of them.

    Example:
        >>> words = find_words("don't\\0東京x")
        >>> ["".join(map(chr, words.codes_N[a:b])) for a, b in zip(words.starts_W, words.ends_W)]
        ['don', 't', '東', '京', 'x']
    """
    codes = np.frombuffer(f"{SEPARATOR}{joined}{SEPARATOR}".encode("utf-32-le"), dtype=np.uint32)
    if joined.isascii():
        kind = _ASCII_KINDS[codes]
    else:
        is_present = np.zeros(codes.max() + 1, dtype=np.bool_)
        is_present[codes] = True
        present = np.flatnonzero(is_present)
        kinds = np.zeros(len(is_present), dtype=np.uint8)
        kinds[present] = [classify(code) for code in present.tolist()]
        kind = kinds[codes]
    is_word = (kind & _WORD).astype(np.bool_)
    starts = is_word.copy()
    starts[1:] &= ~is_word[:-1]
    alone = (kind & _ALONE).astype(np.bool_)
    if alone.any():
        is_mark = (kind & _MARK).astype(np.bool_)
        # Marks belong to what they stand on: the heart before a variation selector stays a word of its own.
        alone = alone[np.maximum.accumulate(np.where(is_mark, 0, np.arange(len(kind))))]
        starts[1:] |= (is_word & ~is_mark)[1:] & is_word[:-1] & (alone[1:] | alone[:-1])
    ends = is_word.copy()
    ends[:-1] &= ~is_word[1:] | starts[1:]
    return Words(codes, is_word, np.flatnonzero(starts), np.flatnonzero(ends) + 1)
