"""CoNLL-U: read as it stands, written back as it was, and told where it is wrong."""

import gzip
import os
from pathlib import Path

import pytest

from widemax.errors import BadRowError
from widemax.parsing.conllu import read_conllu, sentences

TREEBANK = Path(os.environ.get("WIDEMAX_DATA", "../shared/data"), "ud_english_ewt")

TEXT = """\
# newdoc
# sent_id = one
# text = Don't go there
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\tMood=Imp\t3\taux\t3:aux\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t3:advmod\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t0:root\tGloss=aller
3.1\tand\tand\tCCONJ\tCC\t_\t_\t_\t3:cc\t_
4\tthere\tthere\tADV\tRB\t_\t3\tadvmod\t3:advmod\tSpaceAfter=No

# sent_id = two
1\tHi\thi\tINTJ\tUH\t_\t0\troot\t_\t_

"""


def read(text, name="a.conllu"):
    return list(sentences(text.encode().splitlines(keepends=True), name))


def test_words_are_those_with_whole_numbers():
    one, two = read(TEXT)
    assert (one.sent_id, one.line, len(one)) == ("one", 1, 4)
    assert one.column("FORM") == ["Do", "n't", "go", "there"]
    assert one.heads() == [3, 3, 0, 3]
    assert (two.sent_id, two.line, two.column("UPOS")) == ("two", 11, ["INTJ"])


@pytest.mark.parametrize(
    "text",
    [TEXT, TEXT.replace("\n", "\r\n"), TEXT[:-1], TEXT[:-2], "\n\n" + TEXT.replace("\n\n", "\n\n\n")],
    ids=["usual", "carriage returns", "no empty line", "no line end", "more empty lines"],
)
def test_what_is_read_is_written_back_to_the_byte(text):
    assert "".join(sentence.text for sentence in read(text)).strip("\r\n") == text.strip("\r\n")
    assert "".join(sentence.text for sentence in read(text)).startswith(text.rstrip("\r\n"))


def test_another_tree_changes_head_relation_and_enhanced_arcs_only():
    one, _ = read(TEXT)
    wanted = one.text
    for old, new in [
        ("\t3\taux\t3:aux\t", "\t2\ta\t_\t"),
        ("\tRB\t_\t3\tadvmod\t3:advmod\t_", "\tRB\t_\t0\troot\t_\t_"),
        ("\t0\troot\t0:root\t", "\t2\tc:d\t_\t"),
        ("\t3\tadvmod\t3:advmod\tSpaceAfter", "\t3\te\t_\tSpaceAfter"),
    ]:
        assert wanted.count(old) == 1
        wanted = wanted.replace(old, new)
    assert one.with_tree([2, 0, 2, 3], ["a", "root", "c:d", "e"]) == wanted


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("1-2\t", "1-1\t", 4, "at least two"),
        ("1-2\t", "2-3\t", 4, "the next ID, 1"),
        ("1-2\t", "1-9\t", 9, "words up to 9"),
        ("3\tgo", "4\tgo", 7, "the next ID must be 3; got 4"),
        ("3\tgo", "3a\tgo", 7, "got '3a'"),
        ("3.1\t", "3.2\t", 8, "must be 3.1; got 3.2"),
        ("3.1\t", "2.1\t", 8, "must be 3.1; got 2.1"),
        ("\tGloss=aller", "", 7, "got 9 columns"),
        ("\tgo\tgo\t", "\tgo\t\t", 7, "got an empty one"),
    ],
)
def test_broken_lines_are_named(old, new, line, says):
    error, two = read(TEXT.replace(old, new, 1))
    assert isinstance(error, BadRowError)
    assert f"a.conllu, line {line} (sentence 'one')" in str(error)
    assert says in str(error)
    assert two.sent_id == "two"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("\t0\troot\t0:", "\t9\troot\t0:", 7, "a number from 0 to 4; got '9'"),
        ("\t0\troot\t0:", "\t_\troot\t0:", 7, "got '_'"),
        ("\t0\troot\t0:", "\t4\troot\t0:", 5, "no word is the root"),
        ("\t0\troot\t0:", "\t4\troot\t0:", 7, "go round: 3 → 4 → 3"),
        ("\t3\taux\t", "\t0\taux\t", 7, "word 3 is a second root, beside word 1"),
        ("\t3\taux\t", "\t1\taux\t", 5, "go round: 1 → 1"),
        ("\t3\taux\t", "\t3\t_\t", 5, "DEPREL of word 1 is missing"),
    ],
)
def test_broken_trees_are_named(old, new, line, says):
    one, _ = read(TEXT.replace(old, new, 1))
    (told,) = [problem for problem in one.tree_problems() if says in problem]
    assert told.startswith(f"a.conllu, line {line} (sentence 'one'): ")
    with pytest.raises(BadRowError):
        one.heads()


def test_bytes_that_are_no_text_and_sentences_without_words_are_named():
    error, _ = sentences([b"1\t\xff\n", b"\n", *TEXT.encode().splitlines(True)[-2:]], "b.conllu")
    assert "b.conllu, line 1 is not UTF-8" in str(error)
    (error,) = read("# sent_id = none\n\n")
    assert "(sentence 'none') has no word" in str(error)


@pytest.mark.skipif(not TREEBANK.is_dir(), reason="needs the treebank ud_english_ewt")
def test_a_treebank_is_written_back_to_the_byte():
    path = TREEBANK / "en_ewt-ud-dev.conllu.gz"
    found = list(read_conllu(str(path)))
    assert "".join(sentence.text for sentence in found) == gzip.decompress(path.read_bytes()).decode()
    assert not [problem for sentence in found for problem in sentence.tree_problems()]
    assert sum(map(len, found)) == 25_147
