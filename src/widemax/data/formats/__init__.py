"""File formats; one file a format. A name's ending tells the format of a file; a folder is one of images.

A source is a file, a folder or a frame in memory.
"""

from pathlib import Path

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
    "Source",
    "format_of",
    "formats",
]

Source = Path | Frame

formats: Registry[type[Format]] = Registry("format", "widemax.data.formats")


@checked
def format_of(path: Source, name: str | None = None) -> Format:
    """The format called ``name``, or the one that the file's ending belongs to; of a folder, "image_folder".

    A frame in memory is its own, whatever the name.

    Raises:
        UsageError: no format has this ending.

    Example:
        >>> type(format_of(Path("train.csv.gz"))).__name__
        'Csv'
    """
    if isinstance(path, Frame):
        return path
    if name is not None:
        return formats[name]()
    if path.is_dir():
        return formats["image_folder"]()
    known = {suffix: member for member in formats for suffix in formats[member].suffixes}
    for suffix, member in known.items():
        if path.name.lower().endswith(suffix):
            return formats[member]()
    raise UsageError(
        f"{path} has an ending of no known format; it must be one of {sorted(known)}, "
        f"or name the format: one of {formats.names()}."
    )
