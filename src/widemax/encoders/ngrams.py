"""Word and character n-grams of texts as hashed, counted features, without a Python loop over rows or tokens.

Letters: B rows, N places where an n-gram may begin, L lengths of n-grams, P n-grams.
"""

from collections.abc import Iterator
from itertools import accumulate, chain, pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from widemax.encoders.codepoints import (
    SEPARATOR,
    Words,
    cut_tokens,
    find_words,
    fold,
    fold_tokens,
    split_tokens,
)
from widemax.encoders.features import Features, Int, concatenate, list_offsets
from widemax.encoders.hashing import BASE, UInt64, hash_spans, mix, salt
from widemax.encoders.lists import Lists, count_rows

# Rows whose tokens are hashed together, each distinct one once. Both bound the memory.
BLOCK_BYTES = 1 << 20
BLOCK_ROWS = 1 << 14
# Up to so many, Python takes texts apart in less time than the calls of Arrow.
FEW_BYTES = 1 << 13
_SPACE = ord(" ")


def _blocks(texts: pa.Array) -> Iterator[pa.Array]:
    """Consecutive slices of at most ``BLOCK_ROWS`` rows and about ``BLOCK_BYTES`` bytes."""
    if texts.nbytes <= FEW_BYTES:
        yield texts
        return
    size_classes = np.cumsum(pc.binary_length(texts).to_numpy()) // BLOCK_BYTES
    row_classes = np.arange(len(texts)) // BLOCK_ROWS
    changes = np.flatnonzero(np.diff(size_classes) | np.diff(row_classes)) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(texts)]):
        yield texts.slice(start, stop - start)


def _buckets(hashes: UInt64, *, salt: int, buckets: int) -> UInt64:
    """floor(floor(h / 2^32) · buckets / 2^32) for the mixed hash h."""
    mixed = mix(hashes ^ np.uint64(salt))
    mixed >>= np.uint64(32)
    mixed *= np.uint64(buckets)
    mixed >>= np.uint64(32)
    return mixed


def _ngrams_from_each(
    units_N: UInt64,
    least_N: Int,
    most_N: Int,
    *,
    sizes: tuple[int, int],
    names: tuple[str, str],
    buckets: int,
) -> tuple[Int, npt.NDArray[np.uint32]]:
    """How many n-grams begin at each place, and the ids of all; each has ``least_N`` to ``most_N`` units."""
    shortest, longest = sizes
    ids_NL = np.empty((len(units_N), longest - shortest + 1), dtype=np.uint32)
    valid_NL = np.empty(ids_NL.shape, dtype=np.bool_)
    hashes = units_N
    for n in range(1, longest + 1):
        if n > 1:
            hashes = hashes[:-1] * np.uint64(BASE) + units_N[n - 1 :]
        if n >= shortest:
            column, kind = names
            seed = salt(column, f"{kind} {n}")
            ids_NL[: len(hashes), n - shortest] = _buckets(hashes, salt=seed, buckets=buckets)
            valid_NL[:, n - shortest] = (least_N <= n) & (n <= most_N)
    counts_N = np.minimum(most_N, longest) - np.maximum(least_N, shortest) + 1
    return np.maximum(counts_N, 0), ids_NL.ravel().compress(valid_NL.ravel())


def _word_ids(hashes: Lists, *, column: str, longest: int, buckets: int) -> Lists:
    """For each row of word hashes the ids of its n-grams of up to ``longest`` words."""
    ends_N = np.repeat(hashes.offsets_N1[1:], hashes.lengths)
    most_N = ends_N - np.arange(len(ends_N))
    counts_N, ids_P = _ngrams_from_each(
        hashes.items_P,
        np.ones_like(most_N),
        most_N,
        sizes=(1, longest),
        names=(column, "word"),
        buckets=buckets,
    )
    return Lists(np.concatenate(([0], np.cumsum(counts_N)))[hashes.offsets_N1], ids_P)


def _char_ids(words: Words, *, column: str, sizes: tuple[int, int], buckets: int) -> Lists:
    """For each text the ids of the character n-grams of its runs of word characters between two spaces."""
    near = words.is_word_N.copy()
    near[1:] |= words.is_word_N[:-1]
    near[:-1] |= words.is_word_N[1:]
    is_word = words.is_word_N[near]
    codes = np.where(is_word, words.codes_N[near], np.uint32(_SPACE)).astype(np.uint64)
    # A space may be the first or the last character of an n-gram, and nothing else.
    spaces = np.flatnonzero(~is_word)
    next_space_N = np.append(np.repeat(spaces[1:], np.diff(spaces)), spaces[-1:])
    most_N = next_space_N - np.arange(len(codes)) + 1
    most_N[:-1][~is_word[:-1] & ~is_word[1:]] = 0
    counts_N, ids_P = _ngrams_from_each(
        codes, 2 - is_word, most_N, sizes=sizes, names=(column, "char"), buckets=buckets
    )
    starts = np.flatnonzero(words.codes_N == 0)
    starts_near = np.concatenate(([0], np.cumsum(near)))[starts]
    return Lists(np.concatenate(([0], np.cumsum(counts_N)))[starts_near], ids_P)


def _tokens(texts: pa.Array) -> tuple[Lists, str]:
    """For each text the numbers of its tokens, and the distinct tokens, folded, with separators."""
    tokens = split_tokens(texts)
    encoded = tokens.flatten().dictionary_encode()
    rows = Lists(list_offsets(tokens), encoded.indices.to_numpy().astype(np.int64))
    return rows, fold_tokens(encoded.dictionary)


def _tokens_of_few(texts: pa.Array) -> tuple[Lists, str]:
    """`_tokens`, by Python's own strings."""
    numbers: dict[bytes, int] = {}
    rows = [
        [numbers.setdefault(token, len(numbers)) for token in cut_tokens(text)] for text in texts.to_pylist()
    ]
    offsets_B1 = np.array([0, *accumulate(map(len, rows))])
    folded = fold(SEPARATOR.encode().join(numbers).decode())
    return Lists(offsets_B1, np.array([*chain.from_iterable(rows)], np.int64)), folded


def _count_block(
    texts: pa.Array, *, column: str, word_ngrams: int, char_ngrams: tuple[int, int] | tuple[()], buckets: int
) -> Features:
    rows, folded = (_tokens_of_few if texts.nbytes <= FEW_BYTES else _tokens)(texts)
    words = find_words(folded)
    word_offsets = np.searchsorted(words.starts_W, np.flatnonzero(words.codes_N == 0))
    hashes = Lists(word_offsets, hash_spans(words.codes_N, words.starts_W, words.ends_W)).joined(rows)
    word_ids = _word_ids(hashes, column=column, longest=word_ngrams, buckets=buckets)
    each = np.arange(len(texts) + 1)
    views: Features = {"words": count_rows(Lists(each, each[:-1]), word_ids)}
    if char_ngrams:
        char_ids = _char_ids(words, column=column, sizes=char_ngrams, buckets=buckets)
        views["chars"] = count_rows(rows, char_ids)
    return views


def count_ngrams(
    texts: pa.Array, *, column: str, word_ngrams: int, char_ngrams: tuple[int, int] | tuple[()], buckets: int
) -> Features:
    """Counts of the hashed n-grams of each text.

    Args:
        texts: strings; null counts as empty.
        column: name of the column, which enters the hashes.
        word_ngrams: longest word n-gram.
        char_ngrams: shortest and longest character n-gram, or () for none.
        buckets: number of values a hash may take, at most 2^31.

    Returns:
        "words" and, unless ``char_ngrams`` is (), "chars".

    Example:
        >>> features = count_ngrams(
        ...     pa.array(["be or be", ""]), column="text", word_ngrams=1, char_ngrams=(), buckets=1 << 22
        ... )
        >>> sorted(features["words"].values_P.tolist()), features["words"].lengths.tolist()
        ([1.0, 2.0], [2, 0])
    """
    if texts.type != pa.large_string() or texts.null_count:
        texts = texts.cast(pa.large_string()).fill_null("")
    return concatenate(
        [
            _count_block(
                block, column=column, word_ngrams=word_ngrams, char_ngrams=char_ngrams, buckets=buckets
            )
            for block in _blocks(texts)
        ]
    )
