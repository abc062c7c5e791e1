"""Lines and their translations: read, cut into pieces, and laid out for the model.

Shapes: N lines, P pieces of all lines together, B lines of a batch, S and T pieces of a source and target.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from widemax.data.formats.text import numbered_lines, text_of
from widemax.errors import DataError, counted
from widemax.options import checked
from widemax.sequences import Subwords
from widemax.sequences.subwords import END, PADDING, START

SENTENCES = "a text with a sentence a line"
LINES_AT_ONCE = 4096


@checked
def read_lines(paths: Sequence[str | Path], *, encoding: str | None = None) -> Iterator[str]:
    """The lines of text files, one after another, zipped or not.

    Raises:
        DataError: a file cannot be read, or a line is no text.
        UsageError: there is no such file, or no such encoding.
    """
    for place, line in numbered_lines(paths, encoding=encoding, wanted=SENTENCES):
        yield text_of(line, place).rstrip("\r\n")


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of lines: line n is ``ids_P[offsets_N1[n] : offsets_N1[n + 1]]``."""

    ids_P: np.ndarray
    offsets_N1: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets_N1) - 1

    @classmethod
    def of(cls, lines: Iterator[str], subwords: Subwords) -> "Pieces":
        """Those of lines, a few at a time."""
        ids, lengths = [np.empty(0, np.int32)], [0]
        while part := list(islice(lines, LINES_AT_ONCE)):
            rows = subwords.encode(part)
            lengths += map(len, rows)
            ids += [np.fromiter((piece for row in rows for piece in row), np.int32)]
        return cls(np.concatenate(ids), np.cumsum(lengths))

    @property
    def lengths(self) -> np.ndarray:
        """[N] pieces of each line."""
        return np.diff(self.offsets_N1)

    def padded(
        self, lines: np.ndarray, *, first: int | None = None, last: int | None = None, most: int | None = None
    ) -> Tensor:
        """[B, T] at ``most`` so many pieces of each line, between ``first`` and ``last``, then padding."""
        begin, starts = first is not None, self.offsets_N1[lines]
        lengths = np.minimum(self.lengths[lines], most) if most else self.lengths[lines]
        made = np.full((len(lines), int(lengths.max()) + begin + (last is not None)), PADDING, np.int64)
        for row, start, length in zip(made, starts, lengths, strict=True):
            row[begin : begin + length] = self.ids_P[start : start + length]
        if first is not None:
            made[:, 0] = first
        if last is not None:
            made[np.arange(len(lines)), begin + lengths] = last
        return torch.from_numpy(made)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sources and their targets, cut into pieces.

    Args:
        source, target: of the same lines.
        num_left_out: how many pairs were empty or too long.
    """

    source: Pieces
    target: Pieces
    num_left_out: int = 0

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(
        cls, source: Iterator[str], target: Iterator[str], subwords: Subwords, *, max_pieces: int
    ) -> "Pairs":
        """Those of two texts.

        Raises:
            DataError: one has more lines than the other, or no pair is left.
        """
        sides = Pieces.of(source, subwords), Pieces.of(target, subwords)
        if len(sides[0]) != len(sides[1]):
            raise DataError(
                f"the sources have {counted(len(sides[0]), 'line')} and the targets {len(sides[1]):,}; each "
                "line must stand opposite its translation."
            )
        kept = np.logical_and.reduce([(side.lengths > 0) & (side.lengths <= max_pieces) for side in sides])
        if not kept.any():
            raise DataError(f"no pair of lines is left: all are empty or longer than {max_pieces} pieces.")
        return cls(_kept(sides[0], kept), _kept(sides[1], kept), int((~kept).sum()))

    def take(self, lines: np.ndarray) -> "Pairs":
        """Some of the pairs."""
        mask = np.zeros(len(self), bool)
        mask[lines] = True
        return Pairs(_kept(self.source, mask), _kept(self.target, mask))

    def chunks(self, lines: np.ndarray, num_pieces: int) -> Iterator[np.ndarray]:
        """These lines by length, as many at a time as have so many pieces, padding included."""
        lengths = self.source.lengths[lines] + self.target.lengths[lines] + 1
        order = np.lexsort((self.source.lengths[lines], self.target.lengths[lines]))
        first, longest = 0, 0
        for at, line in enumerate(order):
            longest = max(longest, int(lengths[line]))
            if (at + 1 - first) * longest > num_pieces and at > first:
                yield lines[order[first:at]]
                first, longest = at, int(lengths[line])
        yield lines[order[first:]]

    def tensors(self, lines: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """[B, S] sources, [B, T] targets after a start, and [B, T] targets before an end."""
        source = self.source.padded(lines, last=END)
        return source, self.target.padded(lines, first=START), self.target.padded(lines, last=END)


def _kept(pieces: Pieces, mask_N: np.ndarray) -> Pieces:
    lengths = pieces.lengths
    kept = pieces.ids_P[np.repeat(mask_N, lengths)]
    return Pieces(kept, np.concatenate(([0], np.cumsum(lengths[mask_N]))))
