"""The tables of a run: its labels, the keys of its rows, and the histories of users."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from widemax.artifact.facts import Facts, agree
from widemax.data import HISTORY, STORED_BYTES, USER, LabelVocabulary, lists, plain, ragged
from widemax.errors import CorruptError
from widemax.heads import SeveralLabels
from widemax.storage import MANIFEST, sound

CLASS_IDS, TOKENS = pa.list_(pa.int32()), pa.large_list(pa.large_string())


def read_labels(path: Path, facts: Facts) -> LabelVocabulary:
    """The labels of a run, as many as its manifest says, and of the type it says.

    Raises:
        CorruptError: the file is damaged, or says something else.
    """
    with sound(path):
        vocabulary = LabelVocabulary.from_table(read_table(path))
        kinds = str(vocabulary.labels.type), facts.schema.target_type
        own_kind, stated_kind = (kind.removeprefix("large_") for kind in kinds)
        agree(
            {
                "classes": (len(vocabulary), facts.num_classes),
                "rows with these labels": (int(vocabulary.counts.sum()), facts.num_labels),
                "type of labels": (own_kind, stated_kind),
            }
        )
    return vocabulary


def read_pieces(path: Path) -> tuple[list[str], np.ndarray]:
    """Labels that are pieces of texts, and how often each was seen, int64 [C].

    Raises:
        CorruptError: the file is damaged, or holds something else.
    """
    with sound(path):
        vocabulary = LabelVocabulary.from_table(read_table(path))
        labels = vocabulary.labels.to_pylist()
        if not all(isinstance(label, str) for label in labels):
            raise CorruptError("it must hold texts")
    return labels, vocabulary.counts


def write_pieces(path: Path, labels: Sequence[str], counts: np.ndarray) -> None:
    """Write labels that are pieces of texts, and how often each was seen."""
    pq.write_table(LabelVocabulary(pa.array(labels), counts).to_table(), path)


def read_table(path: Path) -> pa.Table:
    """A Parquet file whose values are sound, whatever its bytes."""
    with pq.ParquetFile(path) as file:  # read_table would import pyarrow.dataset
        table = file.read()
    table.validate(full=True)
    return table


def read_row_keys(path: Path, facts: Facts) -> pa.ChunkedArray:
    """The distinct keys of the training rows.

    Raises:
        CorruptError: the file holds something else.
    """
    with sound(path):
        table = read_table(path)
        if table.schema != pa.schema([("key", pa.binary(STORED_BYTES))]):
            raise CorruptError("it must hold keys of rows")
        keys = table["key"]
        distinct = pc.count_distinct(keys, mode="all").as_py()
        if keys.null_count or not distinct == len(keys) <= facts.num_train_rows:
            raise CorruptError(f"it must hold distinct keys of the {facts.num_train_rows} rows of {MANIFEST}")
    return keys


def known_histories(table: pa.Table, vocabulary: LabelVocabulary) -> pa.Table:
    """Users and their histories with class ids in place of the items."""
    lengths_U, items = ragged(plain(table[HISTORY]))
    ids = pa.array(vocabulary.encode(items), pa.int32())
    return table.set_column(1, HISTORY, lists(lengths_U, ids, large=False))


def read_histories(path: Path, facts: Facts) -> pa.Table:
    """Users with their histories, as many as the manifest says.

    Raises:
        CorruptError: the file holds something else.
    """
    with sound(path):
        table = read_table(path)
        names = [(field.name, field.type) for field in table.schema]
        about = [(column.name, TOKENS) for column in facts.schema.inputs[1:]]
        if names[1:] != [(HISTORY, CLASS_IDS), *about] or names[0][0] != USER:
            raise CorruptError(f"it must hold users and lists of class ids; got {names}")
        if any(table[name].null_count for name, _ in about):
            raise CorruptError("it must hold a list of what is known of each user")
        users, histories = (plain(table[name]) for name in (USER, HISTORY))
        distinct = pc.count_distinct(users).as_py()
        if users.null_count or not distinct == len(users) == facts.num_users:
            raise CorruptError(f"it must hold the {facts.num_users} distinct users of {MANIFEST}")
        ids_P = histories.flatten().to_numpy()
        if histories.null_count or not ((ids_P >= 0) & (ids_P < facts.num_classes)).all():
            raise CorruptError(f"its class ids must lie in [0, {facts.num_classes})")
    return table


def seen_labels(vocabulary: LabelVocabulary, histories: Sequence[pa.Array]) -> SeveralLabels:
    """Each row's history items that are classes, over all history columns."""
    encoded = [vocabulary.encode_lists(history) for history in histories]
    num_rows = len(encoded[0][1]) - 1
    rows_P = np.concatenate([np.repeat(np.arange(num_rows), np.diff(offsets)) for _, offsets in encoded])
    ids_P = np.concatenate([ids for ids, _ in encoded])
    known_P = ids_P >= 0
    rows_P, ids_P = rows_P[known_P], ids_P[known_P]
    order_P = np.argsort(rows_P, kind="stable")
    offsets_B1 = np.zeros(num_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows_P, minlength=num_rows), out=offsets_B1[1:])
    return SeveralLabels(torch.from_numpy(ids_P[order_P]), torch.from_numpy(offsets_B1))
