"""The gradients that are found without autograd are its own, and it finds all others."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from widemax import Config, Model
from widemax.encoders import TextEncoder, to_tensors
from widemax.heads import ExactHead
from widemax.training.direct import direct_loss
from widemax.training.feed import EncodedRows
from widemax.training.loop import train

WORDS = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "tis", "nobler"]


def texts(num_rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [" ".join(rng.choice(WORDS, rng.integers(0, 20))) for _ in range(num_rows)]
    return pa.table({"text": rows, "label": rng.choice(["a", "b", "c"], num_rows)})


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def make(**sections: Any) -> Model:
        sections["train"] = {"epochs": 1, "separators": False, "refit": False, **sections.get("train", {})}
        folder = tmp_path_factory.mktemp("direct")
        config = Config(data={"target": "label"}, output={"dir": str(folder / "run")}, **sections)
        model = train(config, data=texts(200)).model
        for part in (model.encoder, model.head):
            part.zero_grad()
        return model

    return make


def rows_of(model: Model, num_rows: int = 30) -> EncodedRows:
    columns = {"text": texts(num_rows)["text"].combine_chunks()}
    labels = torch.arange(num_rows) % model.head.num_classes
    return EncodedRows(to_tensors(model.encoder.encode(columns)), labels, None)


def gradients(model: Model) -> list[torch.Tensor]:
    found = [parameter.grad for part in (model.encoder, model.head) for parameter in part.parameters()]
    return [grad.to_dense() for grad in found if grad is not None]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_they_are_those_of_autograd(make_model: Any, bias: bool, dropout: float) -> None:
    encoder = {"kind": "text", "dropout": dropout}
    model = make_model(head={"kind": "exact", "bias": bias}, encoder=encoder)
    rows = rows_of(model)
    model.encoder.train()
    torch.manual_seed(0)
    loss = direct_loss(model, rows)
    assert loss is not None
    assert not loss.requires_grad
    found = gradients(model)
    for part in (model.encoder, model.head):
        part.zero_grad()
    torch.manual_seed(0)
    wanted = model.head(model.encoder(rows.features), rows.labels)
    wanted.backward()
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-6, atol=0)
    assert len(found) == 2 + bias
    for ours, theirs in zip(found, gradients(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "exact", "label_smoothing": 0.1},
        {"kind": "exact", "temperature": 2.0},
        {"kind": "exact", "score": "cosine", "temperature": 0.1},
        {"kind": "exact", "loss": "focal"},
        {"kind": "sampled", "num_sampled": 2},
    ],
    ids=["smoothing", "temperature", "cosine", "focal", "sampled"],
)
def test_another_head_is_left_to_autograd(make_model: Any, head: dict[str, Any]) -> None:
    model = make_model(head=head)
    assert direct_loss(model, rows_of(model)) is None
    assert not gradients(model)


def test_an_encoder_or_head_of_one_s_own_is_left_to_autograd(make_model: Any) -> None:
    class Own(TextEncoder):
        pass

    class OwnHead(ExactHead):
        pass

    model = make_model(head={"kind": "exact"})
    for part, kind in ((model.encoder, Own), (model.head, OwnHead)):
        before, part.__class__ = part.__class__, kind
        assert direct_loss(model, rows_of(model)) is None
        part.__class__ = before
    assert not gradients(model)


def test_rows_without_a_class_and_less_precision_are_left_to_autograd(make_model: Any) -> None:
    model = make_model(head={"kind": "exact"})
    rows = rows_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert direct_loss(model, rows) is None
    rows.labels[0] = -1
    assert direct_loss(model, rows) is None
    assert not gradients(model)
