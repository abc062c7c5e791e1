"""Every registered member, built by name with its default options, obeys its room's law.

Members that other distributions add are tested here too. The laws of losses, samplers, heads and optimizers
are those of widemax.testing (test_laws.py), those of encoders are in tests/encoders/test_encoder_contract.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from evaluation_rows import one_label_rows, random_probs, several_label_rows, slice_one, slice_several

from widemax.auxiliaries import auxiliaries
from widemax.classes import Classes
from widemax.data import formats, sets
from widemax.data.formats import format_of
from widemax.encoders import encoders
from widemax.errors import ConfigError, DataError, UnknownNameError
from widemax.evaluation.metrics import metrics
from widemax.evaluation.metrics.base import TrainingCounts
from widemax.heads import Head, heads, scores
from widemax.losses import losses
from widemax.optim import optimizers
from widemax.registry import Registry
from widemax.samplers import samplers

B, C, D = 7, 40, 5
COUNTS = (200 / torch.arange(1, C + 1)).long()

REGISTRIES: dict[str, Registry[Any]] = {
    registry.noun: registry
    for registry in (
        auxiliaries,
        encoders,
        formats,
        heads,
        losses,
        metrics,
        optimizers,
        samplers,
        scores,
        sets,
    )
}
MEMBERS = [(noun, name) for noun, registry in REGISTRIES.items() for name in registry]


@pytest.mark.parametrize(("noun", "name"), MEMBERS)
def test_a_member_says_what_it_is_and_refuses_unknown_options(noun: str, name: str) -> None:
    registry = REGISTRIES[noun]
    assert registry[name].__doc__
    with pytest.raises(ConfigError, match=f"{noun} '{name}' has no option 'no_such_option'"):
        registry.options(name).complete({"no_such_option": 1})
    with pytest.raises(UnknownNameError, match=f"did you mean {name!r}"):
        registry[name + "_"]


# Heads: what is answered is exact, and training makes labels more probable.


def build_head(name: str) -> Head:
    torch.manual_seed(0)
    return heads[name](Classes(C, COUNTS, 200), D, **heads.options(name).complete({}))


def some_hidden() -> torch.Tensor:
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", heads.names())
def test_head_probabilities_sum_to_one_and_topk_is_brute_force(name: str) -> None:
    head, hidden = build_head(name), some_hidden()
    log_probs_BC = head.log_probs(hidden, torch.arange(C))
    if head.normalizer == "softmax":
        torch.testing.assert_close(log_probs_BC.exp().sum(1), torch.ones(B))
    best_BC = np.lexsort((np.broadcast_to(np.arange(C), (B, C)), -head.logits(hidden).detach().numpy()))
    topk = head.topk(hidden, 6)
    np.testing.assert_array_equal(topk.class_ids, best_BC[:, :6])
    torch.testing.assert_close(topk.log_probs, log_probs_BC.gather(1, topk.class_ids))


@pytest.mark.parametrize("name", heads.names())
def test_head_answers_agree_with_its_log_probs(name: str) -> None:
    head, hidden = build_head(name), some_hidden()
    labels = torch.arange(0, C, 6)
    answers = head.answer(hidden, labels, k=C)
    torch.testing.assert_close(answers.label_log_probs, head.log_probs(hidden, labels).diagonal())
    ranked = answers.topk.class_ids.gather(1, answers.label_ranks[:, None] - 1)
    assert torch.equal(ranked[:, 0], labels)


@pytest.mark.parametrize("name", [name for name in heads if heads[name].learns_by_gradients])
def test_head_learns(name: str) -> None:
    head, hidden = build_head(name), some_hidden()
    labels = torch.arange(0, C, 6)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    before = head.answer(hidden, labels, k=1).label_log_probs
    for _ in range(20):
        optimizer.zero_grad()
        head(hidden, labels).backward()
        optimizer.step()
    after = head.answer(hidden, labels, k=1).label_log_probs
    assert ((after > before + 0.5) | (after > -0.01)).all()
    assert (after > before + 0.5).double().mean() > 0.5


# Metrics: best for perfect predictions, worse for others, and the same however rows are cut into chunks.

TRAINING = TrainingCounts(COUNTS.numpy(), 1000)


SEVERAL = np.argsort(-random_probs(0, B * C, C), axis=1)[:, :6]
"""Six labels a row."""


def rows_for(task: str, *, perfect: bool) -> tuple[Any, Callable[..., Any]]:
    """Rows of perfect predictions, or of random ones."""
    one_B = np.arange(B * C) % C
    if task == "one":
        right_BC = np.where(one_B[:, None] == np.arange(C), 1.0, 1e-300)
        return one_label_rows(right_BC if perfect else random_probs(1, B * C, C), one_B.tolist()), slice_one
    # Class ids go from frequent to rare; where only the first places count, rare labels are worth more.
    right_BC = (SEVERAL[:, :, None] == np.arange(C)).any(1) * (1.0 + np.arange(C))
    scores_BC = right_BC if perfect else random_probs(1, B * C, C)
    return several_label_rows(scores_BC, SEVERAL.tolist()), slice_several


def value_of(name: str, chunks: list[Any]) -> float:
    metric = metrics[name](TRAINING, **metrics.options(name).complete({}))
    for chunk in chunks:
        metric.update(chunk)
    return metric.compute()


METRIC_TASKS = [(name, task) for name in metrics for task in sorted(metrics[name].tasks)]
JUDGES = [(name, task) for name, task in METRIC_TASKS if metrics[name].judges]


@pytest.mark.parametrize(("name", "task"), JUDGES)
def test_metric_is_best_for_perfect_predictions(name: str, task: str) -> None:
    perfect, _ = rows_for(task, perfect=True)
    best = 1.0 if metrics[name].larger_is_better else 0.0
    assert value_of(name, [perfect]) == pytest.approx(best, abs=1e-12)
    if name not in ("unseen_labels", "excluded_labels"):
        poor, _ = rows_for(task, perfect=False)
        value = value_of(name, [poor])
        assert value < 0.9 if metrics[name].larger_is_better else value > 0.05


@pytest.mark.parametrize(("name", "task"), METRIC_TASKS)
def test_metric_does_not_depend_on_the_chunks(name: str, task: str) -> None:
    rows, part = rows_for(task, perfect=False)
    chunks = [part(rows, start, min(start + 33, B * C)) for start in range(0, B * C, 33)]
    assert value_of(name, chunks) == pytest.approx(value_of(name, [rows]), rel=1e-12)


# Formats: what is written in the plainest way is read back.

NUMBERS = {"a": [1, 2, 3], "b": [0.5, -1.0, 2.5]}


def write_ipc(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.table(NUMBERS).schema) as writer:
        writer.write_table(pa.table(NUMBERS))


def write_files(path: Path) -> None:
    for name in ("b/1.png", "a/2.png", "a/1.png"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()


PLAINEST: dict[str, tuple[Callable[[Path], object], dict[str, list[Any]]]] = {
    "csv": (lambda path: path.write_text("a,b\n1,0.5\n2,-1.0\n3,2.5\n"), {"a": ["1", "2", "3"]}),
    "jsonl": (lambda path: path.write_text('{"a":1,"b":0.5}\n{"a":2,"b":-1}\n{"a":3,"b":2.5}\n'), NUMBERS),
    "json": (lambda path: path.write_text('[{"a":1,"b":0.5},{"a":2,"b":-1},{"a":3,"b":2.5}]'), NUMBERS),
    "parquet": (lambda path: pq.write_table(pa.table(NUMBERS), path), NUMBERS),
    "arrow": (write_ipc, NUMBERS),
    "npz": (lambda path: np.savez(path, **{key: np.array(v) for key, v in NUMBERS.items()}), NUMBERS),
    "npy": (
        lambda path: np.save(path, np.array([(1, 0.5), (2, -1.0), (3, 2.5)], "i8,f8")),
        {"f0": [1, 2, 3]},
    ),
    "idx": (
        lambda path: path.write_bytes(
            bytes([0, 0, 8, 3, *(0, 0, 0, 3), *(0, 0, 0, 1), *(0, 0, 0, 1), 7, 8, 9])
        ),
        {"image": [[7], [8], [9]]},
    ),
    "image_folder": (write_files, {"label": ["a", "a", "b"]}),
    "svmlight": (
        lambda path: path.write_text("1 3:0.5\n2 7:-1\n3 1:2.5 2:1\n"),
        {"label": [1, 2, 3], "features": [[(3, 0.5)], [(7, -1.0)], [(1, 2.5), (2, 1.0)]]},
    ),
}


def plain_values(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [tuple(entry.values()) if isinstance(entry, dict) else entry for entry in value]


@pytest.mark.parametrize("name", formats.names())
def test_format_gives_back_the_rows_and_their_places(name: str, tmp_path: Path) -> None:
    write, expected = PLAINEST[name]
    path = tmp_path / f"rows{formats[name].suffixes[0]}"
    write(path)
    reader = format_of(path)
    assert type(reader) is formats[name]
    assert set(expected) <= set(reader.columns(path))
    chunks = list(reader.chunks(path, list(expected)))
    for key, values in expected.items():
        assert [plain_values(v) for chunk in chunks for v in chunk.columns[key].to_pylist()] == values
    places = np.concatenate([chunk.positions_B for chunk in chunks])
    assert np.diff(places).tolist() == [1, 1]
    assert reader.place(path, int(places[0])).startswith(str(path))


@pytest.mark.parametrize("name", formats.names())
def test_no_two_formats_answer_to_one_ending(name: str) -> None:
    others = {suffix for other in formats if other != name for suffix in formats[other].suffixes}
    assert not others & set(formats[name].suffixes)


# Optimizers: a quadratic is minimized, and the state can be kept.


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", optimizers.names())
def test_optimizer_minimizes_a_quadratic(name: str, sparse: bool) -> None:
    goal = torch.randn(C, D, generator=torch.Generator().manual_seed(0))
    weight = torch.nn.Parameter(torch.zeros(C, D))
    optimizer = optimizers[name]([weight], **optimizers.options(name).complete({"lr": 0.1}))
    order = torch.Generator().manual_seed(1)
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 300)
        gradient = weight.detach() - goal
        rows = torch.randperm(C, generator=order)[: C // 2]
        weight.grad = (
            torch.sparse_coo_tensor(rows[None], gradient[rows], (C, D), check_invariants=True)
            if sparse
            else gradient
        )
        optimizer.step()
    assert (weight - goal).square().mean() < 0.05 * goal.square().mean()


# Data sets: what is asked for is a file a split, or a sentence that says where to put the originals.


@pytest.mark.parametrize("name", sets.names())
def test_data_set_names_its_splits_and_columns(name: str, tmp_path: Path) -> None:
    data_set = sets[name]()
    assert data_set.name == name
    assert data_set.splits
    assert data_set.target not in data_set.inputs
    paths = {data_set.path(tmp_path, split) for split in data_set.splits}
    assert len(paths) == len(data_set.splits)
    (tmp_path / "empty").mkdir()
    with pytest.raises((DataError, OSError)):
        data_set.prepare(tmp_path / "empty", tmp_path)
    assert not any(path.exists() for path in paths)
