"""A checkpoint gives back every bit of the state, or says which file is damaged."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.damage import altered, sign_again

from widemax.artifact import Model
from widemax.artifact.weights import read_encoder
from widemax.config import Config
from widemax.data import Column, LabelVocabulary, Schema
from widemax.encoders import encoders
from widemax.errors import CorruptError
from widemax.heads import heads
from widemax.optim import RowOptimizer, optimizers
from widemax.storage import MANIFEST
from widemax.training.checkpoint import (
    Progress,
    folder_of,
    join_optimizer_state,
    keep_checkpoints,
    latest_checkpoint,
    load_rest,
    load_weights,
    read_progress,
    save_checkpoint,
    split_optimizer_state,
)

C, D = 6, 3


def build(seed: int, optimizer: str = "rowwise_adagrad") -> tuple[Model, RowOptimizer]:
    """A vector encoder and a sampled head."""
    torch.manual_seed(seed)
    encoder = encoders["vector"]([("x", "vector")], dim=D)
    x = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(24, dtype=np.float32)), 4)
    encoder.fit([encoder.featurize({"x": x})], generator=torch.Generator().manual_seed(seed))
    head = heads["sampled"](C, D, num_sampled=3, sampler="uniform")
    head.seed(seed)
    model = Model(
        Config.from_dict({"data": {"train": "x"}}),
        Schema((Column("x", "vector"),), "y"),
        "one",
        6,
        LabelVocabulary(pa.array(list("abcdef")), np.ones(C, np.int64)),
        encoder,
        head,
    )
    return model, optimizer_of(model, optimizer)


def optimizer_of(model: Model, name: str) -> RowOptimizer:
    return optimizers[name]([*model.encoder.parameters(), *model.head.parameters()], lr=0.1)


def steps(model: Model, optimizer: RowOptimizer, count: int) -> None:
    """Optimizer steps that draw from both random states."""
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        hidden = torch.randn(4, D)
        parameter = next(model.encoder.parameters())
        (model.head(hidden, torch.tensor([0, 1, 2, 5])) + parameter.square().sum()).backward()
        optimizer.step()


def bits(model: Model) -> dict[str, bytes]:
    states = {**model.encoder.state_dict(prefix="e."), **model.head.state_dict(prefix="h.")}
    return {name: tensor.numpy().tobytes() for name, tensor in states.items()}


def progress_at(step: int, **values: object) -> Progress:
    return Progress("fingerprint", 1, step=step, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", optimizers.names())
def test_training_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    model, optimizer = build(0, name)
    steps(model, optimizer, 3)
    saved = progress_at(3, seconds=1.5, best_value=0.1 + 0.2, history=[{"step": 3, "valid_nll": None}])
    save_checkpoint(tmp_path, saved, model, optimizer)
    steps(model, optimizer, 4)

    folder = latest_checkpoint(tmp_path)
    assert folder == folder_of(tmp_path, 3)
    assert read_progress(folder) == saved
    other, _ = build(1, name)
    read_encoder(folder, other.encoder)  # which makes new parameters, so that the optimizer comes after it
    other_optimizer = optimizer_of(other, name)
    load_rest(folder, other, other_optimizer)
    steps(other, other_optimizer, 4)
    assert bits(other) == bits(model)


@pytest.mark.parametrize("name", optimizers.names())
def test_optimizer_state_survives_the_split(name: str) -> None:
    model, optimizer = build(0, name)
    steps(model, optimizer, 2)
    tensors, numbers = split_optimizer_state(optimizer)
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    assert not any(isinstance(value, torch.Tensor) for value in numbers.values())
    _, other = build(0, name)
    join_optimizer_state(other, tensors, numbers)
    ours, theirs = split_optimizer_state(other), (tensors, numbers)
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    assert all(torch.equal(ours[0][key], tensor) for key, tensor in tensors.items())


def test_state_of_another_model_is_refused() -> None:
    _, optimizer = build(0)
    with pytest.raises(CorruptError, match="more parameters than the model has"):
        join_optimizer_state(optimizer, {f"{n}.sum": torch.zeros(1) for n in range(9)}, {})


def test_only_the_first_the_latest_and_the_best_are_kept(tmp_path: Path) -> None:
    model, optimizer = build(0)
    for step, best in [(0, 0), (5, 5), (10, 10), (15, 10), (20, 10)]:
        save_checkpoint(tmp_path, progress_at(step, best_step=best), model, optimizer)
    kept = sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000000", "step-00000010", "step-00000020"]
    keep_checkpoints(tmp_path, {20})
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-00000020"]


def test_an_unfinished_checkpoint_does_not_count(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    model, optimizer = build(0)
    save_checkpoint(tmp_path, progress_at(5), model, optimizer)
    (tmp_path / "checkpoints" / ".step-00000010.99").mkdir()
    folder_of(tmp_path, 15).mkdir()
    assert latest_checkpoint(tmp_path) == folder_of(tmp_path, 5)


@pytest.mark.parametrize(
    "name", ["encoder.safetensors", "head-00000-of-00001.safetensors", "random.safetensors", "state.json"]
)
def test_damage_is_found_before_anything_is_loaded(tmp_path: Path, name: str) -> None:
    model, optimizer = build(0)
    save_checkpoint(tmp_path, progress_at(5), model, optimizer)
    path = folder_of(tmp_path, 5) / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    for read in (read_progress, lambda folder: load_weights(folder, build(1)[0])):
        with pytest.raises(CorruptError, match=name):
            read(folder_of(tmp_path, 5))


@pytest.mark.parametrize(
    "name", ["manifest.json", "state.json", "optimizer.safetensors", "random.safetensors"]
)
def test_a_damaged_checkpoint_is_refused_by_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    model, optimizer = build(0)
    steps(model, optimizer, 2)
    save_checkpoint(tmp_path, progress_at(2), model, optimizer)
    folder = folder_of(tmp_path, 2)
    path, content, manifest = folder / name, (folder / name).read_bytes(), (folder / MANIFEST).read_bytes()
    other, _ = build(1)
    read_encoder(folder, other.encoder)
    refused = []
    for what, changed in altered(path):
        path.write_bytes(changed)
        sign_again(folder, name)
        try:
            read_progress(folder)
            load_rest(folder, other, optimizer_of(other, "rowwise_adagrad"))
        except CorruptError as error:
            refused.append((what, str(error)))
        (folder / MANIFEST).write_bytes(manifest)
        path.write_bytes(content)
    assert len(refused) > 5
    assert [each for each in refused if name not in each[1] and MANIFEST not in each[1]] == []


def test_no_rows_have_no_mean_loss() -> None:
    assert progress_at(0).mean_loss is None
    assert progress_at(1, loss_sum=6.0, loss_rows=4).mean_loss == 1.5
