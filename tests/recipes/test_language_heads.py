"""The texts of the recipe, and its clock."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from widemax.data import at_hand, resolve
from widemax.recipes.language_heads import UNKNOWN_EVERY, StepTimes, write_texts


@pytest.mark.slow
def test_words_of_one_document_are_unknown_in_a_tenth_of_them(widemax_data, tmp_path):
    if not at_hand("brown"):
        pytest.skip("data not at hand: brown")
    files = write_texts(tmp_path, every=10)
    documents = pq.read_table(resolve("brown:train")[0])["text"].to_pylist()[::10]
    in_documents = Counter(word for text in documents for word in set(text.split()))
    written = files["train"].read_text().split()
    words = " ".join(documents).split()
    assert len(written) == len(words)
    at = 0
    for number, text in enumerate(documents):
        for word in text.split():
            hidden = number % UNKNOWN_EVERY == 0 and in_documents[word] == 1
            assert written[at] == ("<unk>" if hidden else word)
            at += 1
    assert 100 < written.count("<unk>") < 0.05 * len(written)


def test_the_clock_counts_each_step():
    times = StepTimes()
    for step in range(4):
        times.step(step, 4, None, 0.0)
    assert len(times.seconds) == 4
    assert min(times.seconds) >= 0
