"""A file that keeps what was overwritten since a commit, so that it can be put back.

Shapes: R rows of a record, N bytes a row.

A record is a head of four numbers (the commit it belongs to, R, the CRC-32 of what follows the head, and the
CRC-32 of the head itself), then R row ids, then R rows. A process that is killed, or a machine that stops, in
the middle of an append leaves a record that is too short: it is the last one, and is ignored.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from widemax.errors import CorruptError

ID_BYTES = 8

_BODY = struct.Struct("<QQI")
_CHECK = struct.Struct("<I")
_HEAD_BYTES = _BODY.size + _CHECK.size

sync = getattr(os, "fdatasync", os.fsync)


class UndoJournal(AbstractContextManager["UndoJournal"]):
    """Old rows on disk, each under the commit that would have to be restored.

    Args:
        path: the file, made when it does not exist.
        row_bytes: N.

    Example:
        >>> import tempfile
        >>> with UndoJournal(Path(tempfile.mkdtemp()) / "journal.bin", 4) as journal:
        ...     journal.append(7, torch.tensor([3]), torch.tensor([[1.5]]))
        ...     [(ids, rows.view(torch.float32)) for ids, rows in journal.records(7)]
        [(tensor([3]), tensor([[1.5000]]))]

    Source: Gray, Reuter, "Transaction Processing" (1993), chapter 10: the write-ahead rule, undo records.
    """

    def __init__(self, path: Path, row_bytes: int) -> None:
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        self._path = path
        self._row_bytes = row_bytes
        self.num_bytes = path.stat().st_size

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, commit: int, ids: Tensor, rows: Tensor) -> None:
        """Keep rows, on the disk when this returns; nothing of them when it fails.

        Raises:
            OSError: the file cannot grow.
        """
        payload = _bytes(ids) + _bytes(rows)
        body = _BODY.pack(commit, len(ids), crc32(payload))
        record = body + _CHECK.pack(crc32(body)) + payload
        self._file.seek(self.num_bytes)
        try:
            rest = memoryview(record)
            while rest:
                rest = rest[self._file.write(rest) :]
            sync(self._file.fileno())
            self.num_bytes += len(record)
        except BaseException:
            self._file.truncate(self.num_bytes)
            raise

    def records(self, commit: int) -> Iterator[tuple[Tensor, Tensor]]:
        """What was kept of a commit, one append at a time; records of an earlier commit are left over.

        Yields:
            (ids [R] int64, rows [R, N] uint8)

        Raises:
            CorruptError: a record is whole but not what was written.
        """
        left = self.num_bytes
        self._file.seek(0)
        while left >= _HEAD_BYTES:
            head = self._read(_HEAD_BYTES)
            of_commit, num_rows, payload_check = _BODY.unpack_from(head)
            if crc32(head[: _BODY.size]) != _CHECK.unpack_from(head, _BODY.size)[0]:
                raise self._damaged()
            left -= _HEAD_BYTES + num_rows * (ID_BYTES + self._row_bytes)
            if of_commit != commit or left < 0:
                return
            payload = self._read(num_rows * (ID_BYTES + self._row_bytes))
            if crc32(payload) != payload_check:
                raise self._damaged()
            ids_R = torch.frombuffer(payload, dtype=torch.int64, count=num_rows)
            rows = torch.frombuffer(payload, dtype=torch.uint8, offset=num_rows * ID_BYTES)
            yield ids_R, rows.view(num_rows, self._row_bytes)

    def clear(self) -> None:
        """Forget everything."""
        self._file.truncate(0)
        self.num_bytes = 0

    def _read(self, num_bytes: int) -> bytearray:
        buffer = bytearray(num_bytes)
        rest = memoryview(buffer)
        while rest:
            count = self._file.readinto(rest)
            if not count:
                raise self._damaged()
            rest = rest[count:]
        return buffer

    def _damaged(self) -> CorruptError:
        return CorruptError(
            f"{self._path} is not what was written, so the last commit cannot be restored. "
            "Restore the folder from a copy."
        )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()
