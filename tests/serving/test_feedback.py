"""Right labels as rows to train on."""

import json
from types import SimpleNamespace

import pytest

from widemax.data import Column, Schema
from widemax.errors import DataError
from widemax.serving.feedback import feedback


def lines(labels, **schema):
    served = SimpleNamespace(
        model=SimpleNamespace(schema=Schema((Column("text", "text"),), "place", **schema))
    )
    rows = [{"text": "a"}] * len(labels)
    return [json.loads(line)["place"] for line in feedback(served, inputs=rows, labels=labels)]


def test_one_label_of_a_model_of_several_is_whole():
    labels = ["New York", ["Rome", "San Marino"]]
    assert lines(labels, several=True) == [["New York"], ["Rome", "San Marino"]]
    with pytest.raises(DataError, match="row 0"):
        lines(["7"], target_type="date32[day]")
