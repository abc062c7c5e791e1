"""File formats; one file a format. A name's ending tells the format of a file; a folder is one of images.

A source is a file, a folder or a frame in memory.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from widemax.data.formats.base import BLOCK_BYTES, CHUNK_ROWS, Chunk, Format
from widemax.data.formats.frame import MEMORY, ArrowStream, Frame
from widemax.errors import UsageError
from widemax.options import checked
from widemax.registry import Registry

__all__ = [
    "BLOCK_BYTES",
    "CHUNK_ROWS",
    "MEMORY",
    "ArrowStream",
    "Chunk",
    "Format",
    "Frame",
    "Reading",
    "Source",
    "format_of",
    "formats",
]

Source = Path | Frame

formats: Registry[type[Format]] = Registry("format", "widemax.data.formats")


@dataclass(frozen=True)
class Reading:
    """How files are read where they do not say it themselves.

    Args:
        format: the name of a format, to overrule the files' endings.
        delimiter: what separates the cells of a row, to overrule what a file's first rows look like.
        encoding: of text files without a byte order mark, UTF-8 by default.
        missing: the texts that stand for a missing value, the usual ones by default.
        label_separator: what separates the labels of a row with several.
    """

    format: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] | None = None
    label_separator: str | None = None

    @classmethod
    def of(cls, section: Any, **given: Any) -> Self:
        """What a config says in ``[data]``, and what is given in its place."""
        return cls(
            **{field.name: given.get(field.name) or getattr(section, field.name) for field in fields(cls)}
        )


@checked
def format_of(path: Source, reading: Reading | str | None = None) -> Format:
    """The format that is named, or the one that the file's ending belongs to; of a folder, "image_folder".

    A frame in memory is its own, whatever the name.

    Raises:
        UsageError: no format has this ending, or no such delimiter or encoding can be.

    Example:
        >>> type(format_of(Path("train.csv.gz"))).__name__
        'Csv'
    """
    if isinstance(path, Frame):
        return path
    reading = reading if isinstance(reading, Reading) else Reading(reading)
    name = reading.format or _format_name(path)
    given = {"delimiter": reading.delimiter, "encoding": reading.encoding}
    takes = formats.options(name).keywords
    return formats[name](**{key: value for key, value in given.items() if key in takes})


def _format_name(path: Path) -> str:
    if path.is_dir():
        return "image_folder"
    known = {suffix: member for member in formats for suffix in formats[member].suffixes}
    for suffix, member in known.items():
        if path.name.lower().endswith(suffix):
            return member
    raise UsageError(
        f"{path} has an ending of no known format; it must be one of {sorted(known)}, "
        f"or name the format: one of {formats.names()}."
    )
