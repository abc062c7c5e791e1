"""Tokens say what a table says, and items are alike as far as rare tokens are shared."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from widemax.data import Reading, descriptions, resolve
from widemax.data.descriptions import NUM_ALIKE, described, most_alike
from widemax.errors import DataError, UsageError


def read(columns: dict[str, Any], key: str = "item", key_type: str = "large_string") -> Any:
    return described(resolve(pa.table(columns)), key, key_type=key_type, reading=Reading())


def tokens(columns: dict[str, Any]) -> dict[str, list[list[str]]]:
    table, _, _ = read(columns)
    return {name: values.to_pylist()[:-1] for name, values in table.columns.items()}


def test_every_kind_of_column_becomes_tokens() -> None:
    names = [f"i{number}" for number in range(30)]
    found = tokens(
        {
            "item": names,
            "kind": ["tea", None, "ink"] * 10,
            "stars": [1, 2, None] * 10,
            "grams": [float(number) for number in range(30)],
            "tags": [["a", "b"], [], ["b"]] * 10,
            "title": ["Fine green tea of the hills", "", "A bottle of black ink"] * 10,
        }
    )
    assert found["kind"][:3] == [["kind=tea"], [], ["kind=ink"]]
    assert found["stars"][:3] == [["stars=1"], ["stars=2"], []]
    assert [row[0] for row in found["grams"]] == [f"grams={2 + 3 * (n // 3)}" for n in range(30)]
    assert found["tags"][:3] == [["tags=a", "tags=b"], [], ["tags=b"]]
    assert found["title"][2] == ["title=a", "title=bottle", "title=of", "title=black", "title=ink"]


@pytest.mark.parametrize("pairs_at_once", [2**24, 7])
def test_those_most_alike_have_the_nearest_words(pairs_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "PAIRS_AT_ONCE", pairs_at_once)
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join(rng.choice(words, rng.integers(3, 8), replace=False)) for _ in range(90)]
    items = list(range(90))
    table, numbers, _ = read({"item": items, "title": texts}, key_type="int64")
    new, alike = most_alike(table, numbers, pa.array(items[:70]))
    vectorizer = TfidfVectorizer(smooth_idf=False).fit(texts)
    # There idf is 1 + log(N / df), here log((1 + N) / df).
    vectorizer.idf_ = vectorizer.idf_ - 1 + np.log(91 / 90)
    cosines = (vectorizer.transform(texts[70:]) @ vectorizer.transform(texts[:70]).T).toarray()
    assert new.to_pylist() == items[70:]
    for row, found in zip(cosines, alike.to_pylist(), strict=True):
        assert len(found) == min(NUM_ALIKE, int((row > 0).sum()))
        assert row[found].tolist() == pytest.approx(np.sort(row)[-len(found) :].tolist())


def test_items_like_no_other_are_left_out() -> None:
    table, numbers, _ = read({"item": ["a", "b", "c"], "kind": ["tea", "tea", "ink"]})
    new, alike = most_alike(table, numbers, pa.array(["a"], pa.large_string()))
    assert (new.to_pylist(), alike.to_pylist()) == (["b"], [["a"]])


def test_a_word_of_the_name_goes_before_a_rare_number() -> None:
    """Half of all items are teas; that two share 7.5 grams, as no third one does, says less."""
    names = [f"{['tea', 'ink'][row % 2]} {row}" for row in range(40)]
    grams = [7.5 if row in (1, 38) else float(row % 3) for row in range(40)]
    table, numbers, _ = read({"item": list(range(40)), "name": names, "grams": grams}, key_type="int64")
    assert numbers == {"grams"}
    new, alike = most_alike(table, numbers, pa.array(range(38)))
    assert new.to_pylist() == [38, 39]
    assert all(item % 2 == 0 for item in alike.to_pylist()[0])
    only = read({"item": list(range(40)), "grams": grams}, key_type="int64")
    assert most_alike(only[0], only[1], pa.array(range(38)))[1].to_pylist()[0] == [1]


def test_what_goes_wrong_is_said() -> None:
    vectors = pa.array([[0.5, 1.0]] * 2, pa.list_(pa.float32(), 2))
    with pytest.raises(UsageError, match="'item'"):
        read({"sku": ["a"], "kind": ["tea"]})
    with pytest.raises(UsageError, match="beside 'item'"):
        read({"item": ["a", "b"], "v": vectors})
    with pytest.raises(DataError, match="name each label once; 'a' stands more than once in column 'item'"):
        read({"item": ["a", "a"], "kind": ["tea", "ink"]})
    table, _, told = read({"item": ["a", "b"], "v": vectors, "kind": ["tea", "ink"]})
    assert list(table.columns) == ["kind"]
    assert "column 'v' of" in told[0]
