"""Texts become streams of tokens, and streams texts."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import CorruptError, DataError, UsageError
from widemax.language.tokens import (
    ListedVocabulary,
    Sizes,
    Stream,
    SubwordVocabulary,
    learn_vocabulary,
    lines_of,
    read_lines,
)
from widemax.sequences import Subwords

TEXT = "to be or not to be\n\nthat is the question"


@given(st.text())
def test_characters_come_back_as_they_were(text: str) -> None:
    lines = lines_of(text)
    vocabulary = ListedVocabulary.learn("character", lines, Sizes(10**6, 1))
    stream = Stream.of(lines, vocabulary)
    assert vocabulary.decode(stream.ids_N.tolist()) == "".join(lines) == text.replace("\r\n", "\n")
    assert (stream.num_characters, stream.num_bytes) == (len("".join(lines)), len("".join(lines).encode()))


def test_words_come_back_with_single_spaces() -> None:
    vocabulary = ListedVocabulary.learn("word", lines_of(TEXT), Sizes(99, 1))
    stream = Stream.of(lines_of(" to  be\tor\n\nnot"), vocabulary)
    assert vocabulary.decode(stream.ids_N.tolist()) == "to be or\n\nnot"
    assert (len(stream), stream.num_lines) == (6, 3)


def test_rare_words_and_those_beyond_the_most_are_one_class() -> None:
    rare = ListedVocabulary.learn("word", lines_of(TEXT), Sizes(99, min_count=2))
    assert rare.labels == ["<unk>", "\n", "be", "to"]
    few = ListedVocabulary.learn("word", lines_of(TEXT), Sizes(3, min_count=1))
    assert few.labels == ["<unk>", "\n", "be"]
    assert few.encode(["to be <unk>\n"]) == [[0, 2, 0, 1]]


def test_a_character_never_seen_is_unknown() -> None:
    vocabulary = ListedVocabulary.learn("character", ["abc\n"], Sizes(99, 1))
    assert vocabulary.decode(vocabulary.encode(["aéb\n"])[0]) == "a<unk>b\n"


def test_pieces_come_back_line_by_line() -> None:
    pytest.importorskip("sentencepiece", reason="needs the extra translation")
    vocabulary = learn_vocabulary("subword", lines_of(TEXT * 9), Sizes(300, 1))
    assert isinstance(vocabulary, SubwordVocabulary)
    stream = Stream.of(lines_of(f"{TEXT} ☃\n"), vocabulary)
    assert vocabulary.decode(stream.ids_N.tolist()) == f"{TEXT} ☃\n"
    again = SubwordVocabulary(Subwords(vocabulary.subwords.model))
    assert again.labels == vocabulary.labels


def test_files_are_read_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("dreï\n".encode("latin-1")))
    assert list(read_lines([tmp_path / "a.txt"])) == ["one\n", "two"]
    assert list(read_lines([tmp_path / "b.txt.gz"], encoding="latin-1")) == ["dreï\n"]
    with pytest.raises(DataError, match=r"b\.txt\.gz:1: byte 0xef"):
        list(read_lines([tmp_path / "b.txt.gz"]))
    with pytest.raises(UsageError, match=r"absent\.txt is no file"):
        list(read_lines([tmp_path / "absent.txt"]))


def test_other_first_labels_are_refused() -> None:
    with pytest.raises(CorruptError, match="the unknown and the newline"):
        ListedVocabulary("word", ["\n", "<unk>", "be"])
