"""Subwords: texts come back, and damaged models are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import CorruptError, DataError
from widemax.sequences import Subwords
from widemax.sequences.subwords import END, PADDING, START, UNKNOWN

pytest.importorskip("sentencepiece", reason="needs the extra translation")
LINES = ["zwei hunde rennen über den rasen .", "two dogs run across the lawn ."] * 20


@pytest.fixture(scope="module")
def subwords() -> Subwords:
    return Subwords.learn(LINES, size=400)


@given(st.text(st.characters(exclude_categories=["C", "Z"])).map(lambda text: f"über {text} x"))
def test_any_words_come_back(subwords: Subwords, text: str) -> None:
    assert subwords.decode(subwords.encode([text])) == [text]


def test_frequent_words_are_one_piece_and_ids_leave_room(subwords: Subwords) -> None:
    (ids,) = subwords.encode(["hunde rennen"])
    assert len(ids) == 2
    assert not {UNKNOWN, START, END, PADDING} & set(ids)
    assert max(ids) < len(subwords) <= 400
    assert subwords.encode([""]) == [[]]


def test_the_same_texts_give_the_same_model(subwords: Subwords) -> None:
    assert Subwords.learn(LINES, size=400).model == subwords.model
    assert Subwords(subwords.model).encode(LINES) == subwords.encode(LINES)


@pytest.mark.parametrize("change", [lambda m: b"", lambda m: m[:200], lambda m: b"\xff" * 50])
def test_a_damaged_model_is_refused(subwords: Subwords, change: object) -> None:
    with pytest.raises(CorruptError, match="subwords of the run are damaged"):
        Subwords(change(subwords.model))


def test_nothing_to_learn_from_is_told() -> None:
    with pytest.raises(DataError, match="no subwords can be learned"):
        Subwords.learn([])
