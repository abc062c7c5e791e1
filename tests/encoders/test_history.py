"""Pooling of histories against plain Python."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from widemax.encoders.features import to_tensors
from widemax.encoders.history import HistoryEncoder

HISTORIES: list[list[int] | None] = [[5, 7, 5], [7], [], None, [9, 8, 7, 6, 5]]


def column(histories, type=pa.int64()):  # noqa: A002, B008
    return {"seen": pa.array(histories, pa.large_list(type))}


def fitted(**options):
    encoder = HistoryEncoder([("seen", "ids")], dim=3, **options)
    encoder.fit([encoder.featurize(column(HISTORIES))], generator=torch.Generator())
    with torch.no_grad():
        encoder.weight_FD.normal_(generator=torch.Generator().manual_seed(0))
    return encoder.eval()


def hidden(encoder, histories) -> Tensor:
    return encoder(to_tensors(encoder.encode(column(histories))))


def embedding(encoder, item) -> Tensor:
    alone = HistoryEncoder([("seen", "ids")], dim=3, pooling="sum")
    alone.restore(encoder.state_dict())
    return hidden(alone.eval(), [[item]])[0]


@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrt"])
@pytest.mark.parametrize("recency", [None, 0.5])
@pytest.mark.parametrize("max_length", [None, 2])
def test_pooling(pooling, recency, max_length):
    encoder = fitted(pooling=pooling, recency=recency, max_length=max_length)
    expected = []
    for history in HISTORIES:
        kept = (history or [])[-(max_length or 99) :]
        weights = [(recency or 1.0) ** distance for distance in reversed(range(len(kept)))]
        norm = {"mean": sum(weights), "sum": 1.0, "sqrt": sum(w * w for w in weights) ** 0.5}[pooling]
        terms = [w / norm * embedding(encoder, item) for w, item in zip(weights, kept, strict=True)]
        expected.append(sum(terms, torch.zeros(3)))
    torch.testing.assert_close(hidden(encoder, HISTORIES), torch.stack(expected))


def test_unknown_items_add_nothing():
    encoder = fitted()
    torch.testing.assert_close(hidden(encoder, [[5, 1234, 7]]), hidden(encoder, [[5, 7]]))


def test_strings_and_slices():
    encoder = HistoryEncoder([("seen", "ids")], dim=3)
    columns = column([["x"], ["a", "b"], None, ["b"]], pa.large_string())
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator())
    assert len(encoder.keys_F) == 3
    whole = encoder.encode(columns)["seen"]
    part = encoder.encode({"seen": columns["seen"].slice(1)})["seen"]
    assert part.lengths.tolist() == [2, 0, 1]
    assert part.ids_P.tolist() == whole.ids_P[1:].tolist()


def test_rows_of_the_table_do_not_depend_on_the_order_of_the_data():
    forward, backward = (HistoryEncoder([("seen", "ids")]) for _ in range(2))
    forward.fit([forward.featurize(column(HISTORIES))], generator=torch.Generator())
    backward.fit([backward.featurize(column(HISTORIES[::-1]))], generator=torch.Generator())
    assert torch.equal(forward.keys_F, backward.keys_F)


@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrt"])
def test_dropout_drops_items_in_training_only(pooling):
    encoder = fitted(pooling=pooling, dropout=0.5)
    features = to_tensors(encoder.encode(column([[5, 6, 7, 8, 9]] * 400)))
    plain = encoder(features)
    assert torch.equal(plain, encoder(features))
    encoder.train()
    torch.manual_seed(0)
    dropped = encoder(features)
    assert len(dropped.unique(dim=0)) > 20
    torch.manual_seed(0)
    assert torch.equal(encoder(features), dropped)
    if pooling == "sum":  # unbiased; the others are renormalised over what is left
        error = dropped.std(dim=0) / 400**0.5
        assert ((dropped.mean(dim=0) - plain[0]).abs() < 4 * error).all()


def test_dropped_items_get_no_gradient():
    encoder = fitted(dropout=0.5).train()
    torch.manual_seed(0)
    encoder(to_tensors(encoder.encode(column([[5, 6, 7, 8, 9]])))).sum().backward()
    gradient = encoder.weight_FD.grad
    assert 0 < gradient.indices().shape[1] < 5
    assert (gradient.values().abs().sum(dim=1) > 0).all()


def test_mean_of_what_is_left_is_a_mean():
    encoder = fitted(dropout=0.3).train()
    with torch.no_grad():
        encoder.weight_FD.fill_(2.0)
    rows = encoder(to_tensors(encoder.encode(column([[5, 6, 7]] * 50))))
    assert set(np.unique(rows.detach().numpy().round(5))) <= {0.0, 2.0}
