"""Lines, their pieces, and how they are laid out."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from tests.translation.conftest import sentences, translated

from widemax.errors import DataError, UsageError
from widemax.sequences import Subwords
from widemax.sequences.subwords import END, PADDING, START
from widemax.translation import Pairs, read_lines


@pytest.fixture(scope="module")
def subwords() -> Subwords:
    lines = sentences(200)
    return Subwords.learn([*lines, *map(translated, lines)], size=330)


def pairs(source: list[str], target: list[str], subwords: Subwords, *, most: int = 100) -> Pairs:
    return Pairs.of(iter(source), iter(target), subwords, max_pieces=most)


def test_lines_come_from_any_text_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("grün\r\n\r\nrot".encode("latin-1"))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"blau\n"))
    lines = list(read_lines([tmp_path / "b.gz", tmp_path / "a"], encoding="latin-1"))
    assert lines == ["blau", "grün", "", "rot"]
    with pytest.raises(DataError, match=r"a:1: byte 0xfc after 2 bytes is not UTF-8"):
        list(read_lines([tmp_path / "a"]))
    with pytest.raises(UsageError, match="does not exist"):
        list(read_lines([tmp_path / "a"], encoding="latin-9000"))


def test_sides_of_different_lengths_are_told(subwords: Subwords) -> None:
    with pytest.raises(DataError, match="the sources have 2 lines and the targets 1"):
        pairs(["one .", "two ."], ["eins ."], subwords)


def test_empty_and_long_pairs_are_left_out(subwords: Subwords) -> None:
    found = pairs(["one .", "", "two .", "dog ." * 50], ["eins .", "zwei .", "", "hund ."], subwords, most=50)
    assert (len(found), found.num_left_out) == (1, 3)
    with pytest.raises(DataError, match="no pair of lines is left"):
        pairs([""], ["eins ."], subwords)


def test_tensors_hold_the_pieces_and_nothing_else(subwords: Subwords) -> None:
    found = pairs(["one two .", "dog ."], ["zwei eins .", "hund ."], subwords)
    source, target, following = found.tensors(np.array([1, 0]))
    for row, (text, translation) in enumerate([("dog .", "hund ."), ("one two .", "zwei eins .")]):
        own, other = subwords.encode([text, translation])
        assert source[row][source[row] != PADDING].tolist() == [*own, END]
        assert target[row][target[row] != PADDING].tolist() == [START, *other]
        assert following[row][following[row] != PADDING].tolist() == [*other, END]


def test_chunks_hold_each_line_once_and_so_many_pieces(subwords: Subwords) -> None:
    lines = sentences(90)
    found = pairs(lines, [translated(line) for line in lines], subwords)
    asked = np.random.default_rng(0).permutation(90)[:70]
    chunks = list(found.chunks(asked, 100))
    assert sorted(np.concatenate(chunks).tolist()) == sorted(asked.tolist())
    assert len(chunks) > 5
    lengths = found.source.lengths + found.target.lengths + 1
    assert all(len(chunk) * lengths[chunk].max() <= 100 or len(chunk) == 1 for chunk in chunks)
