"""The rows of a body."""

import pytest

from widemax.data import Column, Schema
from widemax.errors import DataError
from widemax.serving.rows import rows_of

SCHEMA = Schema((Column("text", "text"), Column("size", "number"), Column("past", "ids")), target=None)


def test_lists_stand_where_lists_are_expected() -> None:
    rows = [{"text": "tea", "size": 1, "past": [1, 2]}, {"text": None, "size": "2", "past": []}]
    assert rows_of(SCHEMA, rows) == rows


@pytest.mark.parametrize(("name", "value"), [("text", ["tea"]), ("text", {"a": 1}), ("size", [1])])
def test_a_list_in_the_place_of_one_value_is_named(name: str, value: object) -> None:
    rows = [{"text": "tea", "size": 1, "past": []}, {"text": "tea", "size": 1, "past": [], name: value}]
    with pytest.raises(DataError, match=f"row 1: column '{name}' must hold one value"):
        rows_of(SCHEMA, rows)
