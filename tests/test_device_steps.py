"""A training step computes where its tensors are: it mixes no devices, and waits as its members declare."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.pretended import DEVICE, Generator, OnDevice, place, waits
from torch import Tensor

import widemax.estimators
from widemax.auxiliaries import CenterLoss, Reconstruction
from widemax.classes import Classes
from widemax.encoders import HistoryEncoder, RaggedTensor, TextEncoder, default_encoder, encoders, to_tensors
from widemax.errors import ConfigError
from widemax.estimators import minibatch
from widemax.heads import CountingHead, Head, SeveralLabels, heads
from widemax.kernels import budget
from widemax.optim import optimizers
from widemax.samplers import samplers
from widemax.testing.head_parts import CLASSES, DIM, build, some_hidden, some_labels

COLUMNS = {
    "text": pa.array(["green tea", "black tea", "ink"]),
    "number": pa.array([1.0, 2.0, 4.0]),
    "category": pa.array(["a", "b", "a"]),
    "ids": pa.array([["a", "b"], ["b"], ["c"]]),
    "vector": pa.array([[0.0, 1.0], [2.0, 3.0], [1.0, 1.0]], pa.list_(pa.float32(), 2)),
    "sparse": pa.array([[{"index": index, "value": 1.5}] for index in (1, 2, 1)]),
}
OPTIONS: dict[str, Any] = {"mixture": {"kind": "mixture", "parts": ["uniform", "log_uniform"]}}
TRAINED = [name for name in heads.names() if not issubclass(heads[name], CountingHead)]
SCORES = "dot", "cosine", "cosface", "arcface", "adaface"


def head_of(name: str, **options: Any) -> Callable[[int, int], Head]:
    def factory(num_classes: int, dim: int) -> Head:
        return heads[name](Classes(num_classes, torch.arange(num_classes, 0, -1)), dim, **options)

    return factory


def two_labels() -> SeveralLabels:
    """[B] lists of labels, one of them of two."""
    return SeveralLabels(torch.tensor([0, 22, 3, 5, 7, 11, 1, 4]), torch.tensor([0, 1, 3, 4, 5, 6, 7, 8]))


def on_device(labels: Tensor | SeveralLabels) -> Tensor | SeveralLabels:
    if isinstance(labels, Tensor):
        return OnDevice(labels)
    return SeveralLabels(OnDevice(labels.ids_P), OnDevice(labels.offsets_B1))


def on_device_too(features: Tensor | RaggedTensor) -> Tensor | RaggedTensor:
    if isinstance(features, Tensor):
        return OnDevice(features)
    return RaggedTensor(*map(OnDevice, features))


def steps(
    factory: Callable[[int, int], Head],
    labels: Tensor | SeveralLabels,
    optimizer: str = "rowwise_adagrad",
    dtype: torch.dtype = torch.float32,
) -> set[str]:
    """What the second step on the pretended device waits for; both are held to those on the CPU."""
    found = []
    for there in (False, True):
        head, hidden = build(factory), some_hidden()
        if dtype != torch.float32:
            hidden = hidden.to(dtype)
            head.to(dtype)
        if there:
            place(head)
            head.generator, hidden, labels = Generator(), OnDevice(hidden), on_device(labels)
        head.seed(0)
        descent = optimizers[optimizer](head.parameters(), lr=0.1)
        for _ in range(2):  # in the first one samplers move to the device
            with waits() as told:
                descent.zero_grad()
                loss = head(hidden, labels)
                loss.backward()
                descent.step()
        found.append([loss.detach(), *(parameter.detach() for parameter in head.parameters())])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value.raw, expected)
    return set(told)


@pytest.mark.parametrize("labels", [some_labels(), two_labels()], ids=["one", "several"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_head_waits_as_it_declares(name: str, labels: Tensor | SeveralLabels) -> None:
    options = {"sampler": "uniform", "num_sampled": 6} if name == "sampled" else {}
    declared = heads[name].waits | (samplers["uniform"].waits if name == "sampled" else set())
    assert steps(head_of(name, **options), labels) == declared


@pytest.mark.parametrize("sampler", samplers.names())
def test_every_sampler_waits_as_it_declares(sampler: str) -> None:
    spec = OPTIONS.get(sampler, sampler)
    factory = head_of("sampled", sampler=spec, num_sampled=6)
    assert steps(factory, some_labels()) == heads["sampled"].waits | samplers[sampler].waits


@pytest.mark.parametrize("correction", ["none", "conditional", "importance", "refined"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "multi_positive_softmax"])
def test_every_correction_of_a_sampled_loss(loss: str, correction: str) -> None:
    factory = head_of("sampled", sampler="uniform", num_sampled=6, loss=loss, correction=correction)
    assert steps(factory, two_labels()) == heads["sampled"].waits | samplers["uniform"].waits


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", ["exact", "sampled"])
def test_every_score(name: str, score: str) -> None:
    options = {"sampler": "uniform", "num_sampled": 6} if name == "sampled" else {}
    assert (
        steps(head_of(name, score=score, temperature=0.1, **options), some_labels()) <= heads["sampled"].waits
    )


@pytest.mark.parametrize("rows_at_once", [1, 0], ids=["fused", "tiled"])
@pytest.mark.parametrize("labels", [some_labels(), two_labels()], ids=["one", "several"])
def test_a_wide_exact_loss_reads_where_labels_stand(
    monkeypatch: pytest.MonkeyPatch, labels: Tensor | SeveralLabels, rows_at_once: int
) -> None:
    monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)
    monkeypatch.setattr(budget, "rows_at_once", lambda *_: rows_at_once * len(labels))
    assert steps(head_of("exact", label_smoothing=0.1), labels) == {"count", "read"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", optimizers.names())
def test_optimizers_wait_for_nothing(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", Generator)
    assert steps(head_of("exact"), some_labels(), name, dtype) == set()
    sparse = head_of("sampled", sampler="uniform", num_sampled=6)
    assert steps(sparse, some_labels(), name, dtype) == heads["sampled"].waits | samplers["uniform"].waits


@pytest.mark.parametrize("labels", [some_labels(), two_labels()], ids=["one", "several"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_head_answers_on_the_device(name: str, labels: Tensor | SeveralLabels) -> None:
    options = {"sampler": "uniform", "num_sampled": 6} if name == "sampled" else {}
    check_answers(head_of(name, **options), labels)


@pytest.mark.parametrize("score", SCORES)
def test_every_score_answers_on_the_device(score: str) -> None:
    check_answers(head_of("exact", score=score, temperature=0.1), some_labels())


@torch.no_grad()
def check_answers(factory: Callable[[int, int], Head], labels: Tensor | SeveralLabels) -> None:
    """Hold all that a calibrated head can be asked to what it answers on the CPU."""
    found = []
    for there in (False, True):
        head, hidden, exclude = build(factory).eval(), some_hidden(), two_labels()
        head.calibration_temperature.fill_(0.7)
        ids = torch.tensor([2, 0])
        if there:
            place(head)
            hidden, labels, exclude, ids = map(on_device, (hidden, labels, exclude, ids))
        answer = head.answer(hidden, labels, k=3, exclude=exclude)
        found.append(
            [
                *vars(answer.topk).values(),
                *(value for name, value in vars(answer).items() if name != "topk"),
                *vars(head.topk(hidden, 3, exclude=exclude)).values(),
                head.logits(hidden),
                head.logits(hidden, ids),
                head.log_probs(hidden, ids),
            ]
        )
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value.raw, expected, equal_nan=True)


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_encoder_waits_as_it_declares(kind: str) -> None:
    """Dropout is left out, since each device has randomness of its own; that of n-grams and items selects."""
    name = default_encoder((kind,))
    options = {"dropout": 0.0} if "dropout" in encoders.options(name).keywords else {}
    columns = {"x": COLUMNS[kind]}
    encoder = encoders[name]([("x", kind)], dim=4, **options)
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator().manual_seed(0))
    features = to_tensors(encoder.encode(columns))
    gradients = []
    for there in (False, True):
        if there:
            place(encoder)
            features = {key: on_device_too(value) for key, value in features.items()}
        encoder.zero_grad()
        with waits() as told:
            encoder(features).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters() if parameter.grad is not None])
    for expected, value in zip(*gradients, strict=True):
        torch.testing.assert_close(value.raw.to_dense(), expected.to_dense())
    has_categories = name != "table" or kind == "category"
    assert set(told) == encoders[name].waits - {"select"} if has_categories else not told


@pytest.mark.parametrize("name", ["SampledSoftmaxClassifier", "TwoLayerNet"])
def test_estimators_step_on_the_device_and_keep_arrays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = some_hidden().numpy()
    labels = some_labels().numpy()
    options = {"num_sampled": 6} if name == "SampledSoftmaxClassifier" else {"hidden_units": 5}
    estimators = [getattr(widemax.estimators, name)(epochs=2, batch_size=4, **options) for _ in range(2)]
    for there, estimator in enumerate(estimators):
        if there:
            monkeypatch.setattr(minibatch, "device_of", lambda _: DEVICE)
            monkeypatch.setattr(minibatch, "repeatable", lambda *_: nullcontext())
        with waits() as told:
            estimator.fit(features, labels)
            estimator.partial_fit(features, labels)
        assert bool(told) == there
    expected, found = map(vars, estimators)
    for key in ("coef_", "intercept_", "hidden_coef_", "hidden_intercept_"):
        if key in expected:
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(estimators[1].predict_proba(features), estimators[0].predict_proba(features))


def test_estimators_refuse_an_absent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device is 'cuda', but torch"):
        widemax.estimators.TwoLayerNet(device="cuda").fit([[0.0], [1.0]], [0, 1])


def test_dropping_ngrams_waits_for_how_many_are_left() -> None:
    bag = RaggedTensor(
        *(OnDevice(part) for part in (torch.tensor([0, 2, 3]), torch.arange(3), torch.ones(3)))
    )
    with waits() as told:
        bag.where(bag.values > 0)
    assert set(told) == {"select"}
    assert set(told) < TextEncoder.waits & HistoryEncoder.waits


def test_auxiliaries_wait_as_they_declare() -> None:
    hidden, labels = some_hidden(), some_labels()
    center = CenterLoss(CLASSES, DIM)
    expected = center(hidden, labels)
    again = CenterLoss(CLASSES, DIM)
    place(again)
    with waits() as told:
        loss = again(OnDevice(hidden), OnDevice(labels))
    torch.testing.assert_close(loss.raw, expected)
    torch.testing.assert_close(again.centers.raw, center.centers)
    assert set(told) == CenterLoss.waits
    with waits() as told:
        Reconstruction()(OnDevice(hidden), OnDevice(hidden))
    assert not told


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU that it calls cuda")
@pytest.mark.parametrize("name", TRAINED)
def test_on_a_gpu_every_head_steps_as_on_the_cpu(name: str) -> None:
    options = {"sampler": "uniform", "num_sampled": 4000} if name == "sampled" else {}
    losses = []
    for device in ("cpu", "cuda"):
        head = build(head_of(name, **options)).to(device)
        head.seed(0)
        descent = optimizers["rowwise_adagrad"](head.parameters(), lr=0.1)
        hidden, labels = some_hidden().to(device), some_labels().to(device)
        torch.cuda.set_sync_debug_mode("default" if heads[name].waits else "error")
        for _ in range(2):
            descent.zero_grad()
            loss = head(hidden, labels)
            loss.backward()
            descent.step()
        torch.cuda.set_sync_debug_mode("default")
        losses.append(loss.detach().cpu())
    torch.testing.assert_close(*losses, rtol=1e-3 if name == "sampled" else 1e-5, atol=1e-5)


def test_a_look_at_numbers_is_found() -> None:
    ones = OnDevice(torch.ones(3))
    with waits() as told:
        assert bool((ones > 0).all())
        ones[ones > 0].cpu()
    assert told == ["read", "select", "copy"]


def test_mixed_devices_are_found() -> None:
    with pytest.raises(AssertionError, match="both devices"):
        OnDevice(torch.ones(3)) + torch.ones(3)
