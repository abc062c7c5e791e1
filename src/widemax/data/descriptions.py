"""What tables say of users and items: tokens of each, and which items are alike by them.

Shapes: N rows of a table, P tokens of all rows, M items without events, K alike.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.class_table import ClassTable
from widemax.data.convert import lists, ragged
from widemax.data.formats import Reading, Source, format_of
from widemax.data.schema import Column, infer_schema
from widemax.errors import UsageError

NUM_BINS = 10
"""Numbers and dates are told by the tenth of the rows that they lie in."""
NUM_ALIKE = 10
PAIRS_AT_ONCE = 2**24
"""Tokens that two items share are compared so many at a time, as frequent ones make many."""
_WORD = re.compile(r"\w+")


def described(
    sources: Sequence[Source], key: str, *, key_type: str, reading: Reading
) -> tuple[ClassTable, frozenset[str], list[str]]:
    """A table of users or items whose columns are lists of tokens, which were numbers, and what is left out.

    A token is ``"column=value"``: of a category its value, of a list each of its values, of a text each of
    its words, of a number or a date the tenth of the rows in which it lies.

    Raises:
        UsageError: the column of users or items does not exist, or none beside it can be used.
        DataError: a user or item stands in two rows.
    """
    names = [name for name in format_of(sources[0], reading).columns(sources[0]) if name != key]
    schema = infer_schema(sources, inputs=names, target=key, format=reading)
    used = [column for column in schema.inputs if column.kind in _TOKENS]
    if not used:
        raise UsageError(
            f"{sources[0]} must have a column of texts, categories, lists, numbers or dates beside {key!r}."
        )
    told = [
        f"column {column.name!r} of {sources[0]} is left out: it holds a {column.kind} a row"
        for column in schema.inputs
        if column not in used
    ]
    read = ClassTable.read(sources, replace(schema, inputs=tuple(used), target_type=key_type), reading)
    tokens = {column.name: _tokens(column, read.columns[column.name]) for column in used}
    columns = tuple(Column(column.name, "ids", item="string") for column in used)
    numbers = frozenset(column.name for column in used if _TOKENS[column.kind] is _of_numbers)
    return ClassTable(replace(read.schema, inputs=columns), read.labels, tokens), numbers, told


def _tokens(column: Column, values: Any) -> Any:
    rows = _TOKENS[column.kind](values)
    lengths_N = np.array([len(row) for row in rows], np.int64)
    flat = [f"{column.name}={token}" for row in rows for token in row]
    return lists(lengths_N, pa.array(flat, pa.large_string()))


def _of_numbers(values: Any) -> list[list[str]]:
    numbers_N = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known_N = np.isfinite(numbers_N)
    distinct = np.unique(numbers_N[known_N])
    if len(distinct) > NUM_BINS:
        shares = np.arange(1, NUM_BINS + 1) / NUM_BINS
        distinct = np.unique(np.quantile(numbers_N[known_N], shares, method="inverted_cdf"))
    places_N = np.searchsorted(distinct, numbers_N)
    return [
        [f"{distinct[place]:.10g}"] if known else [] for known, place in zip(known_N, places_N, strict=True)
    ]


_TOKENS: dict[str, Callable[[Any], list[list[str]]]] = {
    "number": _of_numbers,
    "date": _of_numbers,
    "category": lambda values: [[] if each is None else [str(each)] for each in values.to_pylist()],
    "ids": lambda values: [
        [str(each) for each in row or () if each is not None] for row in values.to_pylist()
    ],
    "text": lambda values: [_WORD.findall((text or "").lower()) for text in values.to_pylist()],
}


def most_alike(table: ClassTable, numbers: Collection[str], known: Any) -> tuple[Any, Any]:
    """The items of a table that are not known, each with the known ones most like it by their tokens.

    Likeness is the cosine of the tokens that two items share, weighted by how rare these are (TF-IDF). Items
    that share none with a known one are not given. A number that two items share says little, however rare it
    is: it weighs as the tenth of the rows does, divided by ten, so that words go before it.

    Args:
        table: as :func:`described` gives it.
        numbers: names of its columns that were numbers or dates.
        known: items, an Arrow array.

    Returns:
        The items [M], and lists [M] of at most ``NUM_ALIKE`` known ones, the most alike last.
    """
    from scipy.sparse import csr_array

    num_rows, tokens_P, rows_P = len(table.labels), [], []
    for column in table.columns.values():
        lengths_N, tokens = ragged(column)
        rows_P.append(np.repeat(np.arange(len(lengths_N)), lengths_N))
        tokens_P.append(tokens)
    codes = pa.concat_arrays(tokens_P).dictionary_encode()
    shape = num_rows + 1, len(codes.dictionary)
    places = np.concatenate(rows_P), codes.indices.to_numpy()
    tokens_NT = csr_array((np.ones(len(codes), np.float32), places), shape=shape)[:num_rows]
    tokens_NT.data[:] = 1
    weight_T = np.log((1 + num_rows) / np.maximum(tokens_NT.sum(axis=0), 1))
    are_numbers = [
        np.full(len(ids), name in numbers) for name, ids in zip(table.columns, rows_P, strict=True)
    ]
    number_T = np.unique(places[1][np.concatenate(are_numbers)])
    weight_T[number_T] = np.minimum(weight_T[number_T], np.log(NUM_BINS)) / NUM_BINS
    tokens_NT.data *= weight_T[tokens_NT.indices]
    lengths_N = np.sqrt(tokens_NT.power(2).sum(axis=1))
    tokens_NT.data /= np.repeat(np.maximum(lengths_N, 1e-30), np.diff(tokens_NT.indptr))
    is_known_N = pc.is_in(table.labels, value_set=known).to_numpy(zero_copy_only=False)
    known_N, new_M = np.flatnonzero(is_known_N), np.flatnonzero(~is_known_N)
    by_token = tokens_NT[known_N].T.tocsr()
    new_tokens = tokens_NT[new_M]
    pairs_P1 = np.append(0, np.cumsum(np.diff(by_token.indptr)[new_tokens.indices]))
    part_M = pairs_P1[new_tokens.indptr[1:]] // PAIRS_AT_ONCE
    rows, alike = [], []
    for part in np.split(new_M, np.flatnonzero(np.diff(part_M)) + 1):
        cosines = (tokens_NT[part] @ by_token).tocsr()
        for row, first, last in zip(part, cosines.indptr, cosines.indptr[1:], strict=False):
            values, ids = cosines.data[first:last], cosines.indices[first:last]
            best = np.lexsort((ids, -values))[:NUM_ALIKE]
            if len(best := best[values[best] > 0]):
                rows.append(row)
                alike.append(known_N[ids[best[::-1]]])
    lengths_M = np.array([len(ids) for ids in alike], np.int64)
    flat = pa.array(np.concatenate([np.empty(0, np.int64), *alike]))
    return table.labels.take(pa.array(rows, pa.int64())), lists(lengths_M, table.labels.take(flat))
