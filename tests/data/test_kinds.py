"""Kinds as the values of a column look like; what follows from them is tested with the schema."""

import pyarrow as pa
import pytest

from widemax.data.kinds import guess_kind


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["7 8", "9", "7 8 9"], "ids"),
        (["7,8", "9,11,2", "7,8,9"], "ids"),
        (["[7, 8]", "[]", '["x"]'], "ids"),
        (['["a b", "c"]', '["c"]', '["d"]'], "ids"),
        (["[0.5, 1]", "[2, 1e-3]", "[0, 0]"], "vector"),
        (["0.5 1", "2 .1", "0 0"], "vector"),
        ([" ".join(map(str, range(n, n + 64))) for n in range(3)], "vector"),
        (["1,234", "12,000", "950"], "text"),
        (["[a] note", "[b] and [c]", "[d]"], "text"),
        (["[[1], [2]]", "[[3], [4]]", "[[5], [6]]"], "text"),
        (["1.5 2", "3", "4 5"], "text"),
    ],
)
def test_cells_of_csv_that_hold_lists_are_read_as_such(cells, kind):
    assert guess_kind("x", pa.array(cells), untyped=True) == kind
    assert guess_kind("x", pa.array(cells), untyped=False) == "text"
