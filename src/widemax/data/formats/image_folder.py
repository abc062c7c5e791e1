"""A folder of images, one subfolder a class, decoded by Pillow.

Letters: H rows of pixels, W pixels a row, C channels.
"""

from collections.abc import Iterator, Sequence
from mimetypes import guess_type
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from widemax.data.formats import formats
from widemax.data.formats.base import CHUNK_ROWS, BlockFormat, Chunk
from widemax.data.images import image_array
from widemax.errors import DataError, UsageError

_GRAY = ("1", "L", "LA", "La")  # Pillow's names of pixels without color
_DEEP = ("I", "F")  # the first letter of those with more than 8 bits
_FORMATS = ("PNG", "JPEG", "BMP")
Pixels = npt.NDArray[np.uint8]


@formats.register("image_folder")
class ImageFolder(BlockFormat):
    """``FOLDER/CLASS/*.png`` (jpg, jpeg, bmp): "image", and "label", the name of the subfolder.

    Rows come in the order of classes, then of file names. A folder with images and no such subfolders, or a
    single image, has no labels. All images must have one size. They have one channel where all of them are
    gray, and otherwise red, green and blue; transparency is dropped. They stand as their cameras were held.
    """

    suffixes = (".png", ".jpg", ".jpeg", ".bmp")
    unit = "file"

    def columns(self, path: Path) -> list[str]:
        return ["image", "label"] if self._has_classes(path, self.files(path)) else ["image"]

    def files(self, path: Path) -> list[Path]:
        if path.is_file():
            return [path]
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
        by_class = [file for folder in folders for file in self._images(folder)]
        return by_class or self._images(path)

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        files = self.files(path)
        if "image" in columns:
            decoded = self._decoded(files)
        else:
            starts = range(0, len(files), CHUNK_ROWS)
            decoded = (
                Chunk({}, np.arange(start + 1, min(start + CHUNK_ROWS, len(files)) + 1)) for start in starts
            )
        for chunk in decoded:
            labels = pa.array([files[at - 1].parent.name for at in chunk.positions_B], pa.large_string())
            arrays = {**chunk.columns, "label": labels}
            yield Chunk({name: arrays[name] for name in columns}, chunk.positions_B, chunk.bad)

    def passed_over(self, path: Path) -> list[Path]:
        """Images of other formats, in deeper folders, or beside the folders of classes."""
        read = set(self.files(path))
        return [
            file
            for file in sorted(path.rglob("*"))
            if file not in read
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and (guess_type(file.name, strict=False)[0] or "").startswith("image/")
        ]

    def place(self, path: Path, position: int) -> str:
        return str(self.files(path)[position - 1])

    def _images(self, folder: Path) -> list[Path]:
        found = (entry for entry in folder.iterdir() if entry.name.lower().endswith(self.suffixes))
        return sorted(entry for entry in found if entry.name[0] != "." and entry.is_file())

    def _has_classes(self, path: Path, files: Sequence[Path]) -> bool:
        if not files:
            raise DataError(
                f"{path} holds no images; it must have a subfolder a class, as in {path / 'CLASS' / '*.png'}."
            )
        return path.is_dir() and files[0].parent != path

    def _decoded(self, files: Sequence[Path]) -> Iterator[Chunk]:
        """The images of all files that can be read, a block of bytes at a time."""
        mode = "RGB" if any(map(_in_color, files)) else "L"
        images: list[Pixels] = []
        positions: list[int] = []
        bad: list[tuple[int, str]] = []
        first: tuple[Path, tuple[int, ...]] | None = None
        for position, file in enumerate(files, 1):
            try:
                pixels_HWC = _decode(file, mode)
            except UsageError:
                raise
            except Exception as error:  # Pillow raises errors of many types on damaged files
                bad.append((position, f"cannot be read as an image: {str(error).rstrip('.')}"))
                continue
            first = first or (file, pixels_HWC.shape)
            if pixels_HWC.shape != first[1]:
                sizes = [f"{width} × {height}" for height, width, _ in (pixels_HWC.shape, first[1])]
                bad.append(
                    (position, f"is of {sizes[0]} pixels, but {first[0]}, the first, is of {sizes[1]}")
                )
                continue
            images.append(pixels_HWC)
            positions.append(position)
            if len(images) * pixels_HWC.nbytes >= self.block_bytes:
                yield _chunk(images, positions, bad)
                images, positions, bad = [], [], []
        if images or bad:
            yield _chunk(images, positions, bad)


def _chunk(images: list[Pixels], positions: list[int], bad: list[tuple[int, str]]) -> Chunk:
    pixels_BHWC = np.stack(images) if images else np.empty((0, 1, 1, 1), np.uint8)
    return Chunk({"image": image_array(pixels_BHWC)}, np.array(positions, np.int64), tuple(bad))


def _open(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UsageError(
            "images in files need Pillow, which is not installed; pip install 'widemax[images]'."
        ) from None
    return Image.open(path, formats=_FORMATS)


def _in_color(path: Path) -> bool:
    """Whether an image has color, by its header; a damaged one has none."""
    try:
        with _open(path) as image:
            return image.mode not in _GRAY and not image.mode.startswith(_DEEP)
    except UsageError:
        raise
    except Exception:  # told when the image is decoded
        return False


def _decode(path: Path, mode: str) -> Pixels:
    """The pixels [H, W, C] of one image, gray or red-green-blue."""
    with _open(path) as image:
        from PIL import ImageOps

        if image.mode.startswith(_DEEP):
            raise ValueError("it has more than 8 bits a pixel; convert it to 8 bits")
        pixels: Pixels = np.asarray(ImageOps.exif_transpose(image).convert(mode))
    return pixels[..., None] if mode == "L" else pixels
