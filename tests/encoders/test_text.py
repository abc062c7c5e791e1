"""TF-IDF weights against scikit-learn, and what is kept from training."""

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from widemax.encoders import text
from widemax.encoders.features import Features, take, to_tensors
from widemax.encoders.text import TextEncoder

TEXTS = ["the cat sat on the mat", "the dog sat", "", "a cat and a dog and a cat", "mat 42", "Über dem Café"]
UNSEEN = ["the bird sat on a cat", "nothing known here", "cat cat cat"]


def fitted(texts: list[str], **options: object) -> TextEncoder:
    encoder = TextEncoder([("text", "text")], dim=4, **options)
    encoder.fit([encoder.featurize({"text": pa.array(texts)})], generator=torch.Generator())
    return encoder


def encode(encoder: TextEncoder, texts: list[str]) -> sp.csr_array:
    return weights(encoder, encoder.encode({"text": pa.array(texts)}))


def weights(encoder: TextEncoder, features: Features) -> sp.csr_array:
    offsets_B1, ids_P, weights_P = encoder.bag(to_tensors(features))
    return sp.csr_array((weights_P, ids_P, offsets_B1), shape=(len(offsets_B1) - 1, len(encoder.buckets_F)))


def assert_same_geometry(ours: sp.csr_array, theirs: sp.csr_array) -> None:
    """Columns are in another order, so the columns are compared as a sorted list."""
    assert ours.shape == theirs.shape
    ours_sorted, theirs_sorted = (np.array(sorted(m.toarray().T.tolist())) for m in (ours, theirs))
    np.testing.assert_allclose(ours_sorted, theirs_sorted, atol=1e-6)


@pytest.mark.parametrize("longest", [1, 2])
@pytest.mark.parametrize("min_df", [1, 2])
def test_words_equal_scikit_learn(longest, min_df):
    vectorizer = TfidfVectorizer(
        ngram_range=(1, longest), sublinear_tf=True, token_pattern=r"\w+", min_df=min_df
    ).fit(TEXTS)
    encoder = fitted(TEXTS, word_ngrams=longest, char_ngrams=(), min_df=min_df, buckets=1 << 31 >> 6)
    both = TEXTS + UNSEEN
    assert_same_geometry(encode(encoder, both), sp.csr_array(vectorizer.transform(both)))


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_characters_equal_scikit_learn_and_weigh_as_much_as_asked(weight):
    # scikit-learn counts a word shorter than n once more; all of these are longer.
    texts = ["hello world", "help the world", "yellow"]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True).fit(texts)
    theirs = normalize(sp.hstack([words.transform(texts), weight * chars.transform(texts)]))
    assert_same_geometry(encode(fitted(texts, char_weight=weight), texts), sp.csr_array(theirs))


@pytest.mark.parametrize("chars", [(), (2, 4)])
def test_weights_of_some_rows_are_those_of_an_encoder_that_saw_no_others(chars: tuple[int, ...]) -> None:
    encoder, alone = fitted(TEXTS + UNSEEN, char_ngrams=chars), fitted(TEXTS, char_ngrams=chars)
    seen = encoder.encode({"text": pa.array(TEXTS)})
    encoder.weigh(lambda: iter([take(seen, [0, 1, 2]), take(seen, [3, 4, 5])]))
    known = encode(encoder, TEXTS + UNSEEN)[:, np.isin(encoder.buckets_F, alone.buckets_F)]
    np.testing.assert_allclose(known.toarray(), encode(alone, TEXTS + UNSEEN).toarray(), atol=1e-6)
    assert encode(encoder, TEXTS + UNSEEN).sum() == pytest.approx(known.sum())


def test_rows_have_unit_length_or_none():
    encoder = fitted(TEXTS)
    lengths = np.sqrt(encode(encoder, [*TEXTS, "☃☃☃", "東"]).power(2).sum(axis=1))
    np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1, 1, 0, 0], atol=1e-6)


def test_the_most_frequent_features_are_kept():
    encoder = fitted(["a b c", "a b", "a", "d"], word_ngrams=1, char_ngrams=(), max_features=2)
    assert len(encoder.buckets_F) == 2
    assert np.diff(encode(encoder, ["a", "b", "c", "d"]).indptr).tolist() == [1, 1, 0, 0]


def test_chunks_equal_the_whole():
    whole = fitted(TEXTS)
    cut = TextEncoder([("text", "text")], dim=4)
    cut.fit(
        (cut.featurize({"text": pa.array(TEXTS[part])}) for part in (slice(0, 2), slice(2, 6))),
        generator=torch.Generator(),
    )
    assert torch.equal(whole.buckets_F, cut.buckets_F)
    assert torch.equal(whole.idf_F, cut.idf_F)


def test_several_columns_are_views_of_their_own():
    encoder = TextEncoder([("title", "text"), ("body", "text")], dim=4, char_ngrams=())
    columns = {"title": pa.array(["cat"]), "body": pa.array(["cat " + " ".join(f"w{n}" for n in range(200))])}
    features: Features = encoder.featurize(columns)
    assert set(features) == {"title:words", "body:words"}
    encoder.fit([features], generator=torch.Generator())
    # One title word carries as much as the whole body: 1/√2 of the unit length.
    assert weights(encoder, encoder.index(features)).max() == pytest.approx(0.5**0.5, rel=1e-5)


def test_table_starts_at_zero():
    assert fitted(TEXTS).weight_FD.abs().sum() == 0


def test_a_bucket_in_every_row_of_both_views_is_restored():
    encoder, restored = (TextEncoder([("text", "text")], dim=4, buckets=2) for _ in range(2))
    features = encoder.featurize({"text": pa.array(["a b c", "d e f"] * 4)})
    encoder.fit([features], generator=torch.Generator())
    assert (encoder.idf_F < 1).all()
    restored.restore(encoder.state_dict())
    assert torch.equal(restored.idf_F, encoder.idf_F)


@pytest.mark.parametrize(("classes", "dim"), [(32, 32), (320, 320), (512, 512), (544, 256)])
def test_hidden_vectors_can_be_any_logits_of_up_to_512_classes(classes: int, dim: int) -> None:
    encoder = TextEncoder([("title", "text")])
    encoder.narrow(classes)
    assert encoder.dim == dim


@pytest.mark.parametrize(
    ("max_features", "num_rows", "dim"), [(3, 1, 256), (2, 1, 320), (1, 2, 320), (1, 3, 256)]
)
def test_nor_are_a_table_and_the_separators_larger_than_they_may(
    monkeypatch: pytest.MonkeyPatch, max_features: int, num_rows: int, dim: int
) -> None:
    monkeypatch.setattr(text, "MOST_WEIGHTS", 2 * 320)
    encoder = TextEncoder([("title", "text")], max_features=max_features)
    encoder.begin()
    encoder.observe(encoder.featurize({"title": pa.array(["a b c d"] * num_rows)}))
    encoder.narrow(320)
    assert encoder.dim == dim
