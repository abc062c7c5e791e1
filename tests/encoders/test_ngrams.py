"""Vectorised n-grams against a slow extraction in plain Python."""

import itertools
import unicodedata
from collections import Counter

import pyarrow as pa
import pytest
from encoders_oracle import slow_chars, slow_words, words
from hypothesis import given
from hypothesis import strategies as st

from widemax.encoders import ngrams
from widemax.encoders.codepoints import find_words, fold, fold_tokens, split_tokens
from widemax.encoders.features import Features, Ragged
from widemax.encoders.ngrams import count_ngrams

TEXTS = [
    "To be, or not to be: that is the question.",
    "",
    "   \t\n ",
    "don't stop_me now 42",
    "Donaudampfschifffahrtsgesellschaftskapitän STRASSE straße",
    "東京タワーに行く。ひらがな",
    "สวัสดีครับ",
    "안녕하세요 세계",
    "so happy 😀😀👍🏽 ❤️",
    "x" * 5000,
    "a\0b",
    "e\u0301te\u0301",
    "ﬁne ＦＵＬＬ ①",
    "\u0301",
]
SIZES = (2, 4)
BUCKETS = 1 << 22


def rows_of(bag: Ragged) -> list[Counter[int]]:
    bounds = bag.offsets_B1.tolist()
    return [
        Counter(dict(zip(bag.ids_P[a:b].tolist(), bag.values_P[a:b].astype(int).tolist(), strict=True)))
        for a, b in itertools.pairwise(bounds)
    ]


def count(
    texts: list[str | None],
    *,
    sizes: tuple[int, int] | tuple[()] = SIZES,
    longest: int = 2,
    buckets: int = BUCKETS,
) -> Features:
    array = pa.array(texts, pa.large_string())
    return count_ngrams(array, column="text", word_ngrams=longest, char_ngrams=sizes, buckets=buckets)


def assert_equals_slow(
    texts: list[str], *, sizes: tuple[int, int], longest: int, buckets: int = BUCKETS
) -> None:
    features = count(texts, sizes=sizes, longest=longest, buckets=buckets)
    # A NUL inside a text is a space to the encoder.
    clean = [text.replace("\0", " ") for text in texts]
    assert rows_of(features["words"]) == [
        slow_words(text, column="text", longest=longest, buckets=buckets) for text in clean
    ]
    assert rows_of(features["chars"]) == [
        slow_chars(text, column="text", sizes=sizes, buckets=buckets) for text in clean
    ]


@pytest.mark.parametrize(("sizes", "longest"), [((2, 4), 2), ((1, 1), 1), ((3, 6), 3), ((2, 2), 4)])
def test_equals_the_slow_extraction(sizes, longest):
    assert_equals_slow(TEXTS, sizes=sizes, longest=longest)


@given(
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=6)
)
def test_equals_the_slow_extraction_on_any_text(texts):
    assert_equals_slow(texts, sizes=SIZES, longest=2)


@given(st.lists(st.text(alphabet="ab é_'\0 京ー😀\u0301ก่.", max_size=20), min_size=1, max_size=6))
def test_equals_the_slow_extraction_on_dense_text(texts):
    assert_equals_slow(texts, sizes=SIZES, longest=2)


ASCII = [chr(code) for code in range(1, 128)]


def unites(mark: str) -> bool:
    """Whether some ASCII character and the mark are one character."""
    return any(len(unicodedata.normalize("NFKC", first + mark)) == 1 for first in ASCII)


def folded_tokens(texts: list[str]) -> list[str]:
    """The words, in order, of texts that were cut into tokens and folded one token at a time."""
    tokens = split_tokens(pa.array(texts, pa.large_string()))
    return fold_tokens(tokens.flatten()).split("\0")


def test_tokens_fold_as_they_fold_in_the_text():
    # Every ASCII character before every mark that unites with one, and some before every other: what could
    # unite must not be cut or changed.
    marks = [mark for mark in map(chr, range(0x110000)) if unicodedata.category(mark) == "Mn"]
    texts = [
        " ".join(f"x{first}{mark}\u0301y" for first in (ASCII if unites(mark) else "aZ= \x7f"))
        for mark in marks
    ]
    cut = " ".join(token for text in folded_tokens(texts) for token in words(text))
    assert cut == " ".join(word for text in texts for word in words(fold(text)))


def test_cutting_at_an_equals_sign_would_not_do():
    assert words(fold("x=\u0338y")) == folded_tokens(["x=\u0338y"])[0].split("\u2260") == ["x", "y"]
    assert words(fold("x \u0338y")) != ["x", "y"]


@given(
    st.lists(st.text(alphabet="aAiIjJhK<=>`^;ſKÅ\u0130\u0345\u0301\u0307\u0338 ", max_size=12), min_size=1)
)
def test_equals_the_slow_extraction_on_marked_text(texts):
    assert_equals_slow(texts, sizes=SIZES, longest=2)


@pytest.mark.parametrize("space", [chr(code) for code in range(33)] + ["\x7f", "\x85", "\xa0", "\u2003"])
def test_any_space_ends_a_word(space):
    assert_equals_slow([f"one{space}two{space}{space}three{space}"], sizes=SIZES, longest=2)


def test_blocks_do_not_show(monkeypatch):
    whole = count(TEXTS * 3)
    monkeypatch.setattr(ngrams, "FEW_BYTES", 0)
    monkeypatch.setattr(ngrams, "BLOCK_BYTES", 50)
    monkeypatch.setattr(ngrams, "BLOCK_ROWS", 3)
    cut = count(TEXTS * 3)
    for view in ("words", "chars"):
        assert rows_of(cut[view]) == rows_of(whole[view])


@given(st.lists(st.text(alphabet="aB é_'\0=\u0338 京ー😀\u0301\x1f.", max_size=12), min_size=1, max_size=6))
def test_few_texts_are_counted_as_many_are(texts):
    few = count(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "FEW_BYTES", 0)
        many = count(texts)
    for view in ("words", "chars"):
        assert rows_of(few[view]) == rows_of(many[view])


def test_slices_and_nulls():
    array = pa.array(["zero", "one two", None, "three"], pa.large_string())
    sliced = count_ngrams(array.slice(1), column="text", word_ngrams=1, char_ngrams=(), buckets=BUCKETS)
    assert rows_of(sliced["words"]) == rows_of(count(["one two", "", "three"], sizes=(), longest=1)["words"])


def test_no_rows():
    features = count([])
    assert len(features["words"]) == len(features["chars"]) == 0


def test_normal_forms_agree():
    texts = ["Äpfel über Öl", "café", "각 한글", "ﬀ Å"]
    forms = [
        count([unicodedata.normalize(form, text) for text in texts])
        for form in ("NFC", "NFD", "NFKC", "NFKD")
    ]
    for other in forms[1:]:
        assert rows_of(other["chars"]) == rows_of(forms[0]["chars"])
        assert rows_of(other["words"]) == rows_of(forms[0]["words"])


def test_case_does_not_matter():
    lower, upper = count(["straße ǆ"]), count(["STRASSE Ǆ"])
    assert rows_of(lower["chars"]) == rows_of(upper["chars"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't stop_me 42", ["don", "t", "stop_me", "42"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("abc東def", ["abc", "東", "def"]),
        ("한국어 말", ["한국어", "말"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ok😀👍", ["ok", "😀", "👍"]),
        ("ok❤\ufe0fok", ["ok", "❤\ufe0f", "ok"]),
        ("!?", []),
    ],
)
def test_words(text, expected):
    found = find_words(text)
    assert [
        "".join(map(chr, found.codes_N[a:b])) for a, b in zip(found.starts_W, found.ends_W, strict=True)
    ] == expected
    assert words(text) == expected


def test_folding_is_stable():
    for text in TEXTS:
        assert fold(fold(text)) == fold(text)


def test_columns_and_kinds_are_hashed_apart():
    here = count_ngrams(pa.array(["ab"]), column="a", word_ngrams=1, char_ngrams=(2, 2), buckets=1 << 31)
    there = count_ngrams(pa.array(["ab"]), column="b", word_ngrams=1, char_ngrams=(2, 2), buckets=1 << 31)
    ids = [set(side[view].ids_P.tolist()) for side in (here, there) for view in ("words", "chars")]
    assert len(set.union(*ids)) == sum(map(len, ids))


def test_buckets_are_used_evenly():
    texts = [f"w{n}" for n in range(20_000)]
    bag = count_ngrams(pa.array(texts), column="a", word_ngrams=1, char_ngrams=(), buckets=100)["words"]
    counts = Counter(bag.ids_P.tolist())
    chi_square = sum((counts[b] - 200) ** 2 / 200 for b in range(100))
    assert chi_square < 160  # 99 degrees of freedom: exceeded by chance once in 10,000
