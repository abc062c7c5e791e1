"""CSV and TSV: typed by nobody, cut anywhere, and every bad row by its line."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.data.formats import text
from widemax.data.formats.csv import Csv, record_ends
from widemax.errors import DataError, UsageError


def read(path: Path, columns: list[str], *, block_bytes: int = 1 << 22, **options: str):
    """All rows as tuples, their lines, and the bad rows."""
    rows, lines, bad = [], [], []
    for chunk in Csv(block_bytes=block_bytes, **options).chunks(path, columns):
        rows += list(zip(*(chunk.columns[name].to_pylist() for name in columns), strict=True))
        lines += chunk.positions_B.tolist()
        bad += chunk.bad
    return rows, lines, bad


def write(folder: Path, content: bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_cells_are_strings_and_an_empty_cell_is_null_but_a_quoted_one_is_not(tmp_path):
    path = write(tmp_path, b'a,b\n007,\n"",x\n')
    assert read(path, ["a", "b"])[0] == [("007", None), ("", "x")]


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 8, 13, 21, 1000])
def test_lines_stay_right_with_quoted_newlines_blank_lines_and_any_block(tmp_path, block_bytes):
    content = b'a,b\n1,2\n"x\ny",3\n\n4\n"p ""q""\n\nr",5\n6,7,8\n9,10'
    rows, lines, bad = read(write(tmp_path, content), ["a", "b"], block_bytes=block_bytes)
    assert rows == [("1", "2"), ("x\ny", "3"), ('p "q"\n\nr', "5"), ("9", "10")]
    assert lines == [2, 3, 7, 11]
    assert bad == [
        (6, "the row has 1 columns where the header has 2"),
        (10, "the row has 3 columns where the header has 2"),
    ]


@given(
    cells=st.lists(
        st.tuples(st.text('ab",\n \r\té', max_size=5), st.text('ab",\n é', max_size=5)),
        min_size=1,
        max_size=8,
    ),
    block_bytes=st.integers(1, 40),
    line_end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", "\t"]),
)
def test_agrees_with_the_csv_module_in_blocks_of_any_size(
    tmp_path_factory, cells, block_bytes, line_end, delimiter
):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *cells])
    name = "a.tsv" if delimiter == "\t" else "a.csv"
    path = write(tmp_path_factory.mktemp("csv"), text.getvalue().encode(), name)
    rows, _, bad = read(path, ["a", "b"], block_bytes=block_bytes)
    assert rows == cells
    assert not bad


@given(st.text('ab",\n', max_size=30))
def test_any_text_has_the_record_ends_of_a_reader_of_single_characters(text):
    ends, inside, field_start = [], False, True
    position = 0
    while position < len(text):
        letter = text[position]
        if inside:
            if text[position : position + 2] == '""':
                position += 1
            elif letter == '"':
                inside = False
        elif letter == '"' and field_start:
            inside = True
        elif letter == "\n":
            ends.append(position + 1)
        field_start = not inside and letter in ",\n"
        position += 1
    assert record_ends(text.encode(), ",").tolist() == ends


def test_a_quote_inside_an_unquoted_cell_is_a_letter(tmp_path):
    assert read(write(tmp_path, b'a,b\n5" pipe,x\ny,6"\n'), ["a", "b"])[0] == [('5" pipe', "x"), ("y", '6"')]


def test_a_quote_never_closed_costs_its_line_only(tmp_path):
    rows, lines, bad = read(write(tmp_path, b'a,b\n1,2\n"cut,3\n4,5\n6,7\n'), ["a", "b"], block_bytes=4)
    assert rows == [("1", "2"), ("4", "5"), ("6", "7")]
    assert lines == [2, 4, 5]
    assert bad == [(3, "a quote is never closed")]


def test_undecodable_bytes_and_nul_are_bad_rows_even_in_rows_of_a_wrong_width(tmp_path):
    path = write(tmp_path, b"a,b\n1,2\ncaf\xe9,3\n4,5,\xff\n6,\x007\n8,9\n")
    rows, lines, bad = read(path, ["a"])
    assert rows == [("1",), ("8",)]
    assert lines == [2, 6]
    assert bad == [
        (3, "byte 0xe9 after 3 bytes is not UTF-8"),
        (4, "byte 0xff after 4 bytes is not UTF-8"),
        (5, "a NUL byte stands after 2 bytes"),
    ]


@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_a_file_of_bad_rows_only(tmp_path, block_bytes):
    path = write(tmp_path, b'a,b\n"1,2\n\n3,\xff\n')
    rows, _, bad = read(path, ["a", "b"], block_bytes=block_bytes)
    assert rows == []
    assert bad == [(2, "a quote is never closed"), (4, "byte 0xff after 2 bytes is not UTF-8")]


def test_byte_order_mark_crlf_and_lone_returns(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3,4\r5,6\r\n7\r\n")
    rows, lines, bad = read(path, ["a", "b"])
    assert Csv().columns(path) == ["a", "b"]
    assert rows == [("1", "2"), ("3", "4"), ("5", "6")]
    assert lines == [2, 4, 5]
    assert [line for line, _ in bad] == [6]


def test_a_line_far_longer_than_the_block(tmp_path):
    path = write(tmp_path, b"a,b\n" + b"x" * 10_000_000 + b",1\ny,2\n")
    rows, lines, _ = read(path, ["a", "b"], block_bytes=1 << 16)
    assert [len(row[0]) for row in rows] == [10_000_000, 1]
    assert lines == [2, 3]


def test_only_the_asked_columns_in_the_asked_order(tmp_path):
    assert read(write(tmp_path, b"a,b,c\n1,2,3\n"), ["c", "a"])[0] == [("3", "1")]


def test_gzip_by_content_and_a_truncated_one_by_name(tmp_path):
    zipped = gzip.compress(b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(10_000)))
    assert len(read(write(tmp_path, zipped, "a.csv.gz"), ["a", "b"])[0]) == 10_000
    cut = write(tmp_path, zipped[: len(zipped) // 2], "cut.csv.gz")
    with pytest.raises(DataError, match=r"cut\.csv\.gz cannot be read as text: Compressed file ended"):
        read(cut, ["a", "b"])


def test_header_only_has_no_rows(tmp_path):
    assert read(write(tmp_path, b"a,b\n"), ["a", "b"]) == ([], [], [])
    assert read(write(tmp_path, b"a,b"), ["a", "b"]) == ([], [], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, but its first line must name the columns"),
        (b"\n1,2\n", "the first line is blank"),
        (b"a,b,a\n", r"a\.csv:1: the header names \['a'\] more than once"),
        (b"a,\xff\n", "byte 0xff after 2 bytes is not UTF-8"),
        (b'"a,b\n1,2\n', "a quote in the header is never closed"),
    ],
)
def test_a_header_that_names_no_columns(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        Csv().columns(write(tmp_path, content))


def test_a_column_without_a_name_gets_its_number(tmp_path):
    assert Csv().columns(write(tmp_path, b",b\n0,x\n")) == ["column1", "b"]


@pytest.mark.parametrize("block_bytes", [1, 2, 7, 1000])
@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\r\n"])
def test_lone_returns_alone_end_lines(tmp_path, block_bytes, end):
    path = write(tmp_path, b'a,b\r1,2\r\r"x\ry",4\r5\r6,7' + end)
    rows, lines, bad = read(path, ["a", "b"], block_bytes=block_bytes)
    assert rows == [("1", "2"), ("x\ry", "4"), ("6", "7")]
    assert lines == [2, 4, 7]
    assert [line for line, _ in bad] == [6]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "A.TSV", "A.CSV.GZ"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_first_rows_tell_the_delimiter(tmp_path, name, delimiter):
    cells = [["text", "label"], ["red, one; two", "a"], ["blue", "b|c"], ["x\ty", "1,5"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(cells)
    path = write(tmp_path, text.getvalue().encode(), name)
    assert Csv().columns(path) == cells[0]
    assert read(path, cells[0])[0] == [tuple(row) for row in cells[1:]]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"text;x,label\nred; 1,a\nblue; 2,b\n", ["text;x", "label"]),  # either would do: the ending decides
        (b"last,first;label\nred;a\nblue;b\n", ["last,first", "label"]),
        (b"text|note,label\nred, one,a\nblue, two,b\n", ["text|note", "label"]),
        (b"text\nred; one\nblue; two\n", ["text"]),
        (b"text;label\n", ["text", "label"]),
        (b"text;label\n" + b"x" * 100_000 + b";1\n", ["text", "label"]),
        (b";".join(b"column%d" % number for number in range(20_000)) + b"\n", None),
    ],
)
def test_a_header_with_two_delimiters_is_cut_as_its_rows_are(tmp_path, content, names):
    found = Csv().columns(write(tmp_path, content))
    assert found == names if names else len(found) == 20_000


def test_a_delimiter_that_is_given_is_taken(tmp_path):
    path = write(tmp_path, b'a,b^c]d\n1,2^3]4\n"5^"^"6"\n')
    assert read(path, ["a,b", "c]d"], delimiter="^")[0] == [("1,2", "3]4"), ("5^", "6")]
    assert Csv(delimiter="]").columns(path) == ["a,b^c", "d"]
    tabs = write(tmp_path, b"a\tb,c\n1\t2,3\n")
    assert Csv(delimiter="tab").columns(tabs) == Csv(delimiter=r"\t").columns(tabs) == ["a", "b,c"]


@pytest.mark.parametrize("delimiter", ["", ";;", "é", '"', "\n", "\r", "\0"])
def test_what_cannot_delimit_is_refused(delimiter):
    with pytest.raises(UsageError, match="delimiter must be one ASCII character"):
        Csv(delimiter=delimiter)


@pytest.mark.parametrize("block_bytes", [1, 3, 1000])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
def test_any_encoding_given_or_told_by_a_byte_order_mark(tmp_path, encoding, block_bytes):
    text = "näme,b\ncafé,1\n\n€ß,2\n" if encoding != "latin-1" else "näme,b\ncafé,1\n\nßß,2\n"
    path = write(tmp_path, gzip.compress(text.encode(encoding)))
    told = encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    for options in ([{}] if told else []) + [{"encoding": encoding}]:
        rows, lines, bad = read(path, ["näme", "b"], block_bytes=block_bytes, **options)
        assert rows == [("café", "1"), ("€ß" if encoding != "latin-1" else "ßß", "2")]
        assert lines == [2, 4]
        assert not bad


def test_a_byte_order_mark_wins_over_the_encoding_given(tmp_path):
    path = write(tmp_path, b"\xff\xfe" + "é,b\n1,2\n".encode("utf-16-le"))
    assert Csv(encoding="latin-1").columns(path) == ["é", "b"]


def test_what_an_encoding_does_not_hold_is_a_bad_row(tmp_path):
    path = write(tmp_path, b"a,b\n1,\x81\n3,4\n")
    rows, _, bad = read(path, ["a"], encoding="cp1252")
    assert (rows, bad) == ([("3",)], [(2, "after 2 bytes stands what its encoding does not hold")])
    cut = write(tmp_path, "a,b\n1,2\n3,4".encode("utf-16")[:-1])
    rows, _, bad = read(cut, ["a"])
    assert (rows, bad) == ([("1",)], [(3, "after 2 bytes stands what its encoding does not hold")])


@pytest.mark.parametrize("encoding", ["latin-9x", "hex", "rot13", "", "undefined"])
def test_an_unknown_encoding_is_refused(encoding):
    with pytest.raises(UsageError, match=r"encoding .* does not exist; give one that Python knows"):
        Csv(encoding=encoding)


def test_a_quote_that_is_never_closed_does_not_gather_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MAX_LINES_BYTES", 100)
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b'a,b\n"open,1\n' + b"x,2\n" * 500))
    chunks = list(Csv(block_bytes=16).chunks(path, ["b"]))
    assert [bad for chunk in chunks for bad in chunk.bad] == [(2, "a quote is never closed")]
    assert sum(len(chunk.positions_B) for chunk in chunks) == 500
    assert max(len(chunk.positions_B) for chunk in chunks) < 100


def test_names_of_many_columns_are_compared_once(tmp_path):
    names = [f"column {number}" for number in range(200_000)]  # each with each took minutes
    (tmp_path / "wide.csv").write_text(",".join(names) + "\n")
    assert Csv().columns(tmp_path / "wide.csv") == names
    (tmp_path / "wide.csv").write_text(",".join([*names, names[7]]) + "\n")
    with pytest.raises(DataError, match=r"names \['column 7'\] more than once"):
        Csv().columns(tmp_path / "wide.csv")
