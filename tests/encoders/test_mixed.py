"""Several kinds together: the sum of the parts."""

import pyarrow as pa
import pytest
import torch

from widemax.encoders.features import to_tensors
from widemax.encoders.mixed import MixedEncoder, default_encoder
from widemax.encoders.table import TableEncoder
from widemax.encoders.text import TextEncoder
from widemax.errors import ConfigError, UsageError

COLUMNS = {
    "title": pa.array(["red shoe", "blue hat", "red hat"]),
    "price": pa.array([1.0, None, 3.0]),
    "brand": pa.array(["x", "y", "x"]),
    "seen": pa.array([["a"], [], ["a", "b"]], pa.large_list(pa.large_string())),
}
KINDS = [("title", "text"), ("price", "number"), ("seen", "ids"), ("brand", "category")]


def fitted(encoder):
    encoder.fit([encoder.featurize(COLUMNS)], generator=torch.Generator().manual_seed(0))
    return encoder.eval()


def hidden(encoder):
    return encoder(to_tensors(encoder.encode(COLUMNS)))


def test_hidden_is_the_sum_of_the_parts():
    mixed = fitted(MixedEncoder(KINDS, dim=5)).eval()
    assert sorted(mixed.parts) == ["history", "table", "text"]
    with torch.no_grad():
        for part in ("history", "text"):
            mixed.parts[part].weight_FD.normal_()
    total = sum(hidden(part) for part in mixed.parts.values())
    torch.testing.assert_close(hidden(mixed), total)
    # Each part is the encoder of its columns alone.
    alone = TextEncoder([("title", "text")], dim=5)
    alone.restore(mixed.parts["text"].state_dict())
    torch.testing.assert_close(hidden(alone.eval()), hidden(mixed.parts["text"]))


def test_numbers_and_categories_share_a_table():
    mixed = MixedEncoder(KINDS, dim=5)
    assert isinstance(mixed.parts["table"], TableEncoder)
    assert mixed.parts["table"].columns == (("price", "number"), ("brand", "category"))


def test_options_reach_their_part():
    mixed = MixedEncoder(KINDS, dim=5, parts={"text": {"word_ngrams": 3}, "table": {"hidden": [4]}})
    assert mixed.parts["text"].word_ngrams == 3
    assert mixed.parts["table"].hidden == (4,)
    assert {part.dim for part in mixed.parts.values()} == {5}


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="no part 'tekst'; did you mean 'text'"):
        MixedEncoder(KINDS, parts={"tekst": {}})
    with pytest.raises(ConfigError, match="did you mean 'word_ngrams'"):
        MixedEncoder(KINDS, parts={"text": {"word_ngram": 3}})


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        (["text"], "text"),
        (["text", "text"], "text"),
        (["number", "category"], "table"),
        (["ids"], "history"),
        (["vector"], "vector"),
        (["image"], "image"),
        (["sparse"], "sparse"),
        (["text", "number"], "mixed"),
        (["ids", "vector"], "mixed"),
    ],
)
def test_default_encoder(kinds, name):
    assert default_encoder(kinds) == name


def test_default_encoder_refuses_what_nobody_reads():
    with pytest.raises(UsageError, match="at least one"):
        default_encoder([])
    with pytest.raises(UsageError, match="did you mean 'text'"):
        default_encoder(["texts"])
