"""Word and character n-grams of texts as hashed, counted features, without a Python loop over tokens."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.encoders.codepoints import SEPARATOR, Words, find_words, fold
from widemax.encoders.features import Features, Ragged, concatenate
from widemax.encoders.hashing import BASE, UInt64, hash_spans, joined, mix, salt

# Blocks of this size stay in the processor's cache, and bound the memory for long documents.
_BLOCK_BYTES = 1 << 18
_BLOCK_ROWS = 1 << 10
_BOUNDARY = ord(" ")


def _blocks(texts: pa.Array) -> Iterator[pa.Array]:
    """Consecutive slices of at most ``_BLOCK_ROWS`` rows and about ``_BLOCK_BYTES`` bytes."""
    size_classes = np.cumsum(pc.binary_length(texts).to_numpy()) // _BLOCK_BYTES
    row_classes = np.arange(len(texts)) // _BLOCK_ROWS
    changes = np.flatnonzero(np.diff(size_classes) | np.diff(row_classes)) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(texts)]):
        yield texts.slice(start, stop - start)


def _keys(hashes: UInt64, rows: UInt64, *, salt: int, buckets: int) -> UInt64:
    """The keys row · buckets + bucket, where bucket = floor(floor(h / 2^32) · buckets / 2^32)."""
    keys = mix(hashes ^ np.uint64(salt))
    keys >>= np.uint64(32)
    keys *= np.uint64(buckets)
    keys >>= np.uint64(32)
    keys += rows * np.uint64(buckets)
    return keys


def word_keys(words: Words, *, column: str, longest: int, buckets: int) -> list[UInt64]:
    """One key for every word n-gram of up to ``longest`` words."""
    separators = np.flatnonzero(words.codes_N == 0)
    lengths = np.diff(np.searchsorted(words.starts_W, separators))
    rows = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
    word_hashes = hash_spans(words.codes_N, words.starts_W, words.ends_W)
    keys, hashes = [], word_hashes
    for n in range(1, longest + 1):
        if n > 1:
            hashes = hashes[:-1] * np.uint64(BASE) + word_hashes[n - 1 :]
        first_rows = rows[: len(hashes)]
        valid = first_rows == rows[n - 1 :]
        seed = salt(column, f"word {n}")
        keys.append(_keys(hashes[valid], first_rows[valid], salt=seed, buckets=buckets))
    return keys


def char_keys(words: Words, *, column: str, shortest: int, longest: int, buckets: int) -> list[UInt64]:
    """One key for every character n-gram of each run of word characters, between two boundaries."""
    rows = np.cumsum(words.codes_N == 0, dtype=np.uint64)
    near = words.is_word_N.copy()
    near[1:] |= words.is_word_N[:-1]
    near[:-1] |= words.is_word_N[1:]
    is_word = words.is_word_N[near]
    rows = rows[near] - np.uint64(1)
    codes = np.where(is_word, words.codes_N[near], np.uint32(_BOUNDARY)).astype(np.uint64)
    keys, hashes = [], codes
    between = np.ones(max(len(codes) - 1, 0), dtype=np.bool_)
    for n in range(1, longest + 1):
        if n > 1:
            hashes = hashes[:-1] * np.uint64(BASE)
            hashes += codes[n - 1 :]
        if n > 2:
            # A boundary may be the first or the last character of an n-gram, and nothing else.
            between = between[:-1] & is_word[n - 2 : -1]
        valid = between if n > 2 else is_word[: len(hashes)] | is_word[n - 1 :]
        if n >= shortest:
            seed = salt(column, f"char {n}")
            keys.append(_keys(hashes[valid], rows[: len(hashes)][valid], salt=seed, buckets=buckets))
    return keys


def count_keys(keys: list[UInt64], *, rows: int, buckets: int) -> Ragged:
    """Distinct buckets of every row in rising order, with how often each occurs."""
    # Sorting takes most of the time, and 32 bits sort twice as fast as 64.
    dtype = np.uint32 if rows * buckets <= 1 << 32 else np.uint64
    sorted_keys = np.concatenate(keys, dtype=dtype, casting="unsafe")
    sorted_keys.sort()
    first = np.empty(len(sorted_keys), dtype=np.bool_)
    first[:1] = True
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=first[1:])
    positions = np.flatnonzero(first)
    distinct = sorted_keys[positions]
    counts = np.diff(positions, append=len(sorted_keys))
    row_starts = np.arange(rows, dtype=np.uint64) * np.uint64(buckets)
    offsets = np.append(np.searchsorted(distinct, row_starts.astype(dtype)), len(distinct))
    ids = distinct - np.repeat(row_starts, np.diff(offsets))
    return Ragged(offsets, ids.astype(np.int32), counts.astype(np.float32))


def count_ngrams(
    texts: pa.Array, *, column: str, word_ngrams: int, char_ngrams: tuple[int, int] | None, buckets: int
) -> Features:
    """Counts of the hashed n-grams of each text.

    Args:
        texts: strings; null counts as empty.
        column: name of the column, which enters the hashes.
        word_ngrams: longest word n-gram.
        char_ngrams: shortest and longest character n-gram, or None for none.
        buckets: number of values a hash may take, at most 2^31.

    Returns:
        "words" and, unless ``char_ngrams`` is None, "chars".

    Example:
        >>> features = count_ngrams(
        ...     pa.array(["be or be", ""]), column="text", word_ngrams=1, char_ngrams=None, buckets=1 << 22
        ... )
        >>> sorted(features["words"].values_P.tolist()), features["words"].lengths.tolist()
        ([1.0, 2.0], [2, 0])
    """
    clean = pc.replace_substring(texts.cast(pa.large_string()).fill_null(""), SEPARATOR, " ")
    chunks: list[Features] = []
    for block in _blocks(clean):
        words = find_words(fold(joined(block, SEPARATOR).decode()))
        views = {"words": word_keys(words, column=column, longest=word_ngrams, buckets=buckets)}
        if char_ngrams is not None:
            shortest, longest = char_ngrams
            views["chars"] = char_keys(
                words, column=column, shortest=shortest, longest=longest, buckets=buckets
            )
        chunks.append(
            {view: count_keys(keys, rows=len(block), buckets=buckets) for view, keys in views.items()}
        )
    return concatenate(chunks)
