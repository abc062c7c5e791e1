"""The journal gives back what it was given, and never anything else."""

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from widemax.errors import CorruptError
from widemax.optim.undo_journal import UndoJournal


def record(ids, seed):
    rows = torch.randn(len(ids), 3, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(ids, dtype=torch.int64), rows


@given(
    records=st.lists(st.lists(st.integers(0, 2**40), min_size=1, max_size=5), max_size=4),
    cut=st.floats(0, 1),
    flipped=st.none() | st.integers(1, 255),
)
def test_the_journal_gives_what_was_kept_or_its_beginning_or_an_error(records, cut, flipped):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.bin"
        written, ends = [record(ids, seed) for seed, ids in enumerate(records)], [0]
        with UndoJournal(path, 12) as journal:
            for ids, rows in written:
                journal.append(5, ids, rows)
                ends.append(journal.num_bytes)
        content = bytearray(path.read_bytes())
        position = int(cut * len(content))
        is_damaged = flipped is not None and position < len(content)
        if is_damaged:
            content[position] ^= flipped
        else:
            content = content[:position]
        path.write_bytes(content)
        found = []
        with UndoJournal(path, 12) as journal:
            with pytest.raises(CorruptError) if is_damaged else contextlib.nullcontext():
                found.extend(journal.records(5))
            assert is_damaged or list(journal.records(6)) == []
    whole = sum(end <= position for end in ends[1:])
    assert len(found) == whole
    for (ids, rows), (ids_kept, rows_kept) in zip(found, written, strict=False):
        assert torch.equal(ids, ids_kept)
        assert torch.equal(rows.view(torch.float32), rows_kept)
