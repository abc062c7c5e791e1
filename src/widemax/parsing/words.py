"""Words as ids of known forms, hashed character n-grams and tags.

Shapes: W words, U distinct forms, P n-grams or tags, N characters.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from widemax.encoders.hashing import hash_spans, mix, salt
from widemax.parsing.conllu import Sentence

Ints = npt.NDArray[np.int64]
TAG_COLUMNS = ("UPOS", "XPOS", "FEATS")
NGRAM_SIZES, NGRAM_BUCKETS = (2, 5), 1 << 15
UNKNOWN = 0
"""The id of forms and tags that training has not seen, or too seldom."""


class Words(NamedTuple):
    """All words of some sentences, one sentence after the other.

    Args:
        lengths_B: words of each sentence.
        form_W: id of each word's form, which ``UNKNOWN`` stands for where it is rare.
        distinct_W: which of the U distinct forms each word is.
        ngrams_P: buckets of the character n-grams of the distinct forms.
        ngram_starts_U: where each form's n-grams begin.
        tags_P: ids of the words' tags.
        tag_starts_W: where each word's tags begin.
    """

    lengths_B: Ints
    form_W: Ints
    distinct_W: Ints
    ngrams_P: Ints
    ngram_starts_U: Ints
    tags_P: Ints
    tag_starts_W: Ints


def hash_ngrams(forms: Sequence[str], *, sizes: tuple[int, int], buckets: int) -> tuple[Ints, Ints]:
    """Buckets of the character n-grams of each form with its two ends, of the form itself and of its shape.

    The shape is the form with A for capitals, a for small letters, 0 for digits, runs of one kind shortened.

    Args:
        forms: U words.
        sizes: shortest and longest n-gram; an end counts as a character.
        buckets: number of values a hash may take.

    Returns:
        Buckets [P], and where each form's begin [U].

    Example:
        >>> buckets, starts = hash_ngrams(["ab", "a"], sizes=(2, 3), buckets=1 << 15)
        >>> len(buckets), starts.tolist()  # <a ab b> <ab ab> <ab> and a shape; <a a> <a> <a> and a shape
        (12, [0, 7])
    """
    ends = [f"\x02{form}\x03" for form in forms]
    hashes, owners = [], []
    codes = np.frombuffer("".join(ends).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    stop_U = np.cumsum([len(each) for each in ends], dtype=np.int64)
    start_U = np.concatenate(([0], stop_U[:-1])).astype(np.int64)
    owner_N = np.repeat(np.arange(len(forms)), stop_U - start_U)
    every_N = np.arange(len(codes))
    for size in range(sizes[0], sizes[1] + 1):
        first = every_N[every_N + size <= stop_U[owner_N]]
        hashes.append(hash_spans(codes, first, first + size))
        owners.append(owner_N[first])
    hashes.append(hash_spans(codes, start_U, stop_U) ^ np.uint64(salt("form")))
    shapes = [_shape(form) for form in forms]
    shape_codes = np.frombuffer("".join(shapes).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    shape_stop_U = np.cumsum([len(each) for each in shapes], dtype=np.int64)
    shape_start_U = np.concatenate(([0], shape_stop_U[:-1])).astype(np.int64)
    hashes.append(hash_spans(shape_codes, shape_start_U, shape_stop_U) ^ np.uint64(salt("shape")))
    owners += [np.arange(len(forms))] * 2
    owner_P = np.concatenate(owners)
    order = np.argsort(owner_P, kind="stable")
    bucket_P = (mix(np.concatenate(hashes)) % np.uint64(buckets)).astype(np.int64)[order]
    return bucket_P, np.searchsorted(owner_P[order], np.arange(len(forms)))


def _shape(form: str) -> str:
    kinds = [
        "A" if each.isupper() else "a" if each.isalpha() else "0" if each.isdigit() else each for each in form
    ]
    return "".join(kind for at, kind in enumerate(kinds) if kinds[max(at - 2, 0) : at] != [kind] * 2)


class Reader:
    """Makes ids of words.

    Args:
        forms: known forms in small letters, the id of the first is 1.
        tags: known tags as column=value, the id of the first is 1.
        columns: which of "UPOS", "XPOS", "FEATS" are read.
    """

    def __init__(self, forms: Sequence[str], tags: Sequence[str], columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._form_ids = {form: at for at, form in enumerate(forms, start=1)}
        self._tag_ids = {tag: at for at, tag in enumerate(tags, start=1)}

    def __call__(self, sentences: Sequence[Sentence]) -> Words:
        """The words of sentences as ids."""
        forms = [form for sentence in sentences for form in sentence.column("FORM")]
        distinct: dict[str, int] = {}
        distinct_W = [distinct.setdefault(form, len(distinct)) for form in forms]
        known_U = np.array([self._form_ids.get(form.lower(), UNKNOWN) for form in distinct], dtype=np.int64)
        ngrams_P, ngram_starts_U = hash_ngrams(list(distinct), sizes=NGRAM_SIZES, buckets=NGRAM_BUCKETS)
        word_tags = [tags for sentence in sentences for tags in tags_of(sentence, self.columns)]
        counts_W = np.array([len(tags) for tags in word_tags], dtype=np.int64)
        return Words(
            lengths_B=np.array([len(sentence) for sentence in sentences], dtype=np.int64),
            form_W=known_U[distinct_W],
            distinct_W=np.array(distinct_W, dtype=np.int64),
            ngrams_P=ngrams_P,
            ngram_starts_U=ngram_starts_U,
            tags_P=np.array(
                [self._tag_ids.get(tag, UNKNOWN) for tags in word_tags for tag in tags], dtype=np.int64
            ),
            tag_starts_W=np.cumsum(counts_W) - counts_W,
        )


def tags_of(sentence: Sentence, columns: Sequence[str]) -> list[list[str]]:
    """The tags of each word [N], several of FEATS."""
    if not columns:
        return [[] for _ in sentence.words]
    values = [sentence.column(column) for column in columns]
    return [
        [
            tag if column == "FEATS" else f"{column}={tag}"
            for column, value in zip(columns, cells, strict=True)
            for tag in (value.split("|") if column == "FEATS" else [value])
        ]
        for cells in zip(*values, strict=True)
    ]
