"""Training in several processes: the model of one, checkpoints for any number, and what is refused."""

import shutil
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from tests.damage import sign_again
from tests.distributed import ranks
from tests.distributed.rows import configure, probabilities, weights, write_rows

from widemax import Config, resume, train
from widemax.artifact.weights import read_tensors
from widemax.distributed import World, shards
from widemax.errors import CorruptError, UsageError
from widemax.storage import read_manifest
from widemax.training.checkpoint import latest_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    ("head", "split", "splits_tables"),
    [
        ("exact", "true", True),
        pytest.param("sampled", "true", True, marks=pytest.mark.slow),
        ("sampled", "false", False),
        pytest.param("sampled", "false", True, marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_the_model_of_one(worlds, folder, head, split, splits_tables):
    path = configure(folder, head=head, split=split)
    config = Config.load(path)
    train(config.model_copy(update={"output": config.output.model_copy(update={"dir": str(folder / "one")})}))
    said = worlds(2).run(ranks.train_config, str(path), str(folder / "two"), splits_tables)
    assert said[0]["metrics"]
    assert said[1]["steps"] == said[0]["steps"]
    assert probabilities(folder / "two") == pytest.approx(probabilities(folder / "one"), rel=1e-3, abs=1e-4)
    assert read_manifest(folder / "two")["complete"]
    assert not (folder / "two" / ".widemax").exists()


@pytest.mark.parametrize("head", ["exact", pytest.param("sampled", marks=pytest.mark.slow)])
def test_two_processes_train_in_bfloat16_as_one(worlds, folder, head):
    path = str(configure(folder, head=head))
    assert ranks.train_narrow(World(), path, str(folder / "one")) == {torch.bfloat16}
    assert worlds(2).run(ranks.train_narrow, path, str(folder / "two")) == [{torch.bfloat16}] * 2
    assert probabilities(folder / "two") == pytest.approx(probabilities(folder / "one"), rel=0.05, abs=5e-3)


@pytest.mark.parametrize(("before", "size"), [(2, 1), pytest.param(2, 3, marks=pytest.mark.slow), (1, 2)])
def test_what_some_have_saved_another_number_goes_on_with(worlds, folder, before, size):
    path = configure(folder)
    worlds(2).run(ranks.train_config, str(path), str(folder / "whole"))
    worlds(before).run(ranks.stop_after, str(path), str(folder / "run"), 12)
    assert not read_manifest(folder / "run")["complete"]
    if size == 1:
        resume(folder / "run")
    else:
        worlds(size).run(ranks.resume_run, str(folder / "run"))
    assert read_manifest(folder / "run")["complete"]
    assert probabilities(folder / "run") == pytest.approx(probabilities(folder / "whole"), rel=1e-3, abs=1e-4)


def test_as_many_go_on_to_the_same_bits(worlds, folder):
    path = configure(folder, head="sampled", dropout=0.5)
    worlds(2).run(ranks.train_config, str(path), str(folder / "whole"))
    worlds(2).run(ranks.stop_after, str(path), str(folder / "run"), 12)
    worlds(2).run(ranks.resume_run, str(folder / "run"))
    assert weights(folder / "run") == weights(folder / "whole")


def test_rows_are_read_by_any_number_of_processes(worlds, tmp_path):
    """Saved by four, read by three, saved by those and read by one: bitwise the same rows."""
    for found in ranks.resharded(tmp_path):
        assert found


def test_a_shard_is_let_go_before_the_next_is_read(tmp_path, monkeypatch):
    held = []

    def read(path):
        assert all(each() is None for each in held)
        tensors = read_tensors(path)
        held.extend(map(weakref.ref, tensors.values()))
        return tensors

    monkeypatch.setattr(shards, "read_tensors", read)
    ranks.save_parts(tmp_path, 4)
    assert ranks.load_part(tmp_path, 1)
    assert len(held) == 12


def test_what_is_to_be_filled_is_not_made_again(tmp_path, monkeypatch):
    ranks.save_parts(tmp_path, 4)
    placement = ranks.Placement(ranks.NUM_SAVED)
    into = {name: torch.zeros_like(tensor) for name, tensor in ranks.part(placement).items()}
    monkeypatch.setattr(torch.Tensor, "new_empty", None)
    found = shards.read_shards(tmp_path, placement, into)
    assert all(torch.equal(found[name], tensor) for name, tensor in ranks.part(placement).items())
    assert all(found[name] is tensor for name, tensor in into.items())


@pytest.mark.parametrize("which", ["first", "middle", "last"])
def test_a_missing_shard_is_found(tmp_path, which):
    ranks.save_parts(tmp_path, 3)
    number = ["first", "middle", "last"].index(which)
    (tmp_path / f"shard-{number:05d}-of-00003.safetensors").unlink()
    with pytest.raises(CorruptError, match="lacks some of the shards"):
        ranks.load_part(tmp_path, 1)


def test_a_shard_with_other_rows_is_found(tmp_path):
    ranks.save_parts(tmp_path, 2)
    shutil.copy(tmp_path / "shard-00000-of-00002.safetensors", tmp_path / "shard-00001-of-00002.safetensors")
    with pytest.raises(CorruptError, match=r"has 6 rows; it must have 5"):
        ranks.load_part(tmp_path, 1)


def test_a_damaged_checkpoint_is_refused_by_the_name_of_its_file(worlds, folder):
    """A shard whose bytes, tensors or rows are others is not trained on, whoever signs its hashes again."""
    worlds(2).run(ranks.stop_after, str(configure(folder)), str(folder / "run"), 3)
    checkpoint = latest_checkpoint(folder / "run")
    path = checkpoint / "shard-00001-of-00002.safetensors"
    content = path.read_bytes()
    for name, tensors in {
        "bit": None,
        "left out": {"head.bias": ...},
        "shape": {"head.weight": torch.zeros(15, 3)},
        "rows": {"head.weight": torch.zeros(14, 8)},
        "type": {"head.bias": torch.zeros(15, dtype=torch.float64)},
        "no number": {"head.bias": torch.full((15,), torch.nan)},
    }.items():
        if tensors is None:
            path.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
        else:
            held = load(content) | tensors
            path.write_bytes(save({key: value for key, value in held.items() if value is not ...}))
            sign_again(checkpoint, path.name)
        with pytest.raises(CorruptError, match=path.name if name != "no number" else "not finite"):
            resume(folder / "run")
    path.write_bytes(content)
    sign_again(checkpoint, path.name)
    table = checkpoint / "weight_FD-rows-00000-of-00002.safetensors"
    content = table.read_bytes()
    rows = load(content)["weight"]
    for tensors in (
        {},
        {"weight": rows[:, :3].contiguous()},
        {"weight": rows[1:]},
        {"weight": rows.double()},
    ):
        table.write_bytes(save(tensors))
        sign_again(checkpoint, table.name)
        with pytest.raises(CorruptError, match="weight"):
            resume(folder / "run")
    table.write_bytes(content)
    sign_again(checkpoint, table.name)
    assert not resume(folder / "run").interrupted


def test_in_one_process_several_are_not_forgotten(folder):
    path = configure(folder)
    config = Config.load(path)
    several = config.distributed.model_copy(update={"workers": 2})
    with pytest.raises(UsageError, match="several processes are started by `widemax train` or torchrun"):
        train(config.model_copy(update={"distributed": several}))


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"head": {"kind": "counts"}}, "the head 'counts' learns from all rows in one place"),
        ({"train": {"time_limit_s": 5.0}}, "a time limit follows the clock of one process"),
        ({"train": {"device": "cuda"}}, "several processes compute on the CPU (train.device is 'cuda')"),
        ({"head": {"kind": "sampled", "sampler": "midx"}}, "reads the weights of all classes"),
        (
            {"head": {"kind": "sampled", "sampler": "in_batch"}, "distributed": {"shard_classes": False}},
            "follows all rows of a batch",
        ),
    ],
)
def test_what_one_process_alone_can_do_is_refused(worlds, folder, sections, sentence):
    path = configure(folder)
    said = worlds(2).run(ranks.refused_config, str(path), str(folder / "run"), sections)
    assert any(sentence in each for each in said), said
