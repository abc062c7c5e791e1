"""JSON: an array of objects, one a row. Under this ending JSON Lines are often found, and read as such."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from widemax.data.formats import formats
from widemax.data.formats.base import CHUNK_ROWS, Format
from widemax.data.formats.jsonl import JsonLines, Objects, only_object
from widemax.data.formats.text import open_text, parsed, undecodable
from widemax.errors import DataError, reason_of

_HEAD_BYTES = 1 << 12


@formats.register("json")
class Json(JsonLines):
    """A JSON array of objects (``.json``), which is read whole; or JSON Lines."""

    suffixes: ClassVar[tuple[str, ...]] = (".json", ".json.gz")

    def pieces(self, path: Any, num_parts: int) -> list[tuple[Any, int]]:
        return Format.pieces(self, path, num_parts)

    def objects(self, path: Any) -> Iterator[Objects]:
        if not self._is_array(path):
            yield from super().objects(path)
            return
        with open_text(path, self.encoding) as stream:
            text = stream.read()
        try:
            if reason := undecodable(text):
                raise ValueError(reason)
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} cannot be read as JSON: {reason_of(error)}. Correct it there.") from None
        for start in range(0, len(rows), CHUNK_ROWS):
            yield parsed(enumerate(rows[start : start + CHUNK_ROWS], start + 1), only_object)

    def place(self, path: Path, position: int) -> str:
        return f"{path}:row {position}" if self._is_array(path) else super().place(path, position)

    def _is_array(self, path: Path) -> bool:
        with open_text(path, self.encoding) as stream:
            return stream.read(_HEAD_BYTES).lstrip().startswith(b"[")
