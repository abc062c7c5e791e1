"""What the tests of this room run in every process. Shapes: B rows of all, D hidden, C classes, P labels."""

import resource
import signal
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from tests.command import exit_code
from torch import Tensor, nn

import widemax
from widemax import Config, storage
from widemax.classes import Classes
from widemax.cli import predict
from widemax.cli.verify import hashed_in_parts
from widemax.data import Dataset, infer_schema
from widemax.data import dataset as datasets
from widemax.data.formats import format_of
from widemax.data.formats.jsonl import JsonLines
from widemax.distributed import (
    Placement,
    ShardedHead,
    SplitTable,
    World,
    agree,
    read_shards,
    sharded_head,
    tables,
    write_shard,
)
from widemax.distributed import world as world_module
from widemax.distributed.exact_loss import sharded_exact_loss
from widemax.distributed.exchange import Exchange
from widemax.encoders import RaggedTensor, TableRows, encoders
from widemax.errors import WidemaxError
from widemax.heads import SeveralLabels, heads
from widemax.kernels import Pairs, budget
from widemax.optim import optimizers
from widemax.training import evaluate as evaluation
from widemax.training import feed, loop, prepare
from widemax.training.progress import PlainReporter


def batch(num_rows: int, num_classes: int, dim: int, *, several: bool, seed: int = 0):
    """Hidden vectors and labels of all rows."""
    draw = torch.Generator().manual_seed(seed)
    hidden_BD = torch.randn(num_rows, dim, generator=draw)
    if not several:
        return hidden_BD, torch.randint(num_classes, (num_rows,), generator=draw)
    counts = [(0, 1, 3)[row % 3] if num_classes >= 3 else 1 for row in range(num_rows)]
    ids = [torch.randperm(num_classes, generator=draw)[:count] for count in counts]
    offsets = torch.tensor([0, *counts]).cumsum(0)
    return hidden_BD, SeveralLabels(torch.cat(ids), offsets)


def build(world: World | None, case: dict[str, Any]):
    """A head and its optimizer, in one process where there is no world."""
    torch.manual_seed(3)
    num_classes, dim = case["num_classes"], case["dim"]
    classes = Classes(num_classes, (300 / torch.arange(1, num_classes + 1)).long(), 500)
    options = case["options"]
    if world is None:
        head = heads[case["kind"]](classes, dim, **options)
    else:
        head = ShardedHead(case["kind"], classes, dim, world=world, **options)
    kind, more = case.get("optimizer", ("rowwise_adagrad", {}))
    return head, optimizers[kind](head.parameters(), lr=0.1, **more)


def rows_of(labels, rows: range):
    """The labels of some rows."""
    if isinstance(labels, SeveralLabels):
        return labels.take(torch.tensor(list(rows), dtype=torch.int64))
    return labels[rows.start : rows.stop]


def whole(world: World, head: ShardedHead, own: Tensor) -> Tensor:
    """The rows of all classes in the order of their ids."""
    rows = world.gather(own.detach())
    ids = world.gather(head.placement.ids())
    return torch.empty_like(rows).index_copy(0, ids, rows)


def dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def train(world: World, case: dict[str, Any], num_steps: int = 1) -> dict[str, Any]:
    """Loss, gradients and weights after some steps, each process with its share of the rows."""
    head, optimizer = build(world, case)
    found = {}
    for step in range(num_steps):
        hidden_BD, labels = batch(
            case["num_rows"], case["num_classes"], case["dim"], several=case["several"], seed=step
        )
        rows = case["shares"][world.size][world.rank] if "shares" in case else world.share(len(hidden_BD))
        own_ND = hidden_BD[rows.start : rows.stop].clone().requires_grad_()
        optimizer.zero_grad()
        loss = head(own_ND, rows_of(labels, rows), reduction=case.get("reduction", "mean"))
        loss.backward()
        found |= {
            "loss": loss.item(),
            "hidden": world.gather(own_ND.grad),
            "weight_grad": whole(world, head, dense(head.weight.grad)),
            "is_sparse": head.weight.grad.is_sparse,
            "bias_grad": None
            if getattr(head, "bias", None) is None
            else whole(world, head, dense(head.bias.grad)),
        }
        optimizer.step()
    optimizer.catch_up()
    found["weight"] = whole(world, head, head.weight)
    found["bias"] = None if getattr(head, "bias", None) is None else whole(world, head, head.bias)
    return found


def train_alone(case: dict[str, Any], num_steps: int = 1) -> dict[str, Any]:
    """The same in one process with an ordinary head."""
    head, optimizer = build(None, case)
    found = {}
    for step in range(num_steps):
        hidden_BD, labels = batch(
            case["num_rows"], case["num_classes"], case["dim"], several=case["several"], seed=step
        )
        hidden_BD.requires_grad_()
        optimizer.zero_grad()
        loss = head(hidden_BD, labels, reduction=case.get("reduction", "mean"))
        loss.backward()
        found |= {
            "loss": loss.item(),
            "hidden": hidden_BD.grad,
            "weight_grad": dense(head.weight.grad),
            "is_sparse": head.weight.grad.is_sparse,
            "bias_grad": None if getattr(head, "bias", None) is None else dense(head.bias.grad),
        }
        optimizer.step()
    optimizer.catch_up()
    found["weight"] = head.weight.detach()
    found["bias"] = None if getattr(head, "bias", None) is None else head.bias.detach()
    return found


def answers(world: World, case: dict[str, Any], k: int, exclude: SeveralLabels | None):
    """What a head answers about all rows, a few at a time; tensors of one row or label each."""
    head, _ = build(world, case)
    with patch.object(budget, "HELD_ELEMENTS", 128):
        return asked(head.eval(), case, k, exclude)


def answers_alone(case: dict[str, Any], k: int, exclude: SeveralLabels | None):
    head, _ = build(None, case)
    return asked(head.eval(), case, k, exclude)


@torch.no_grad()
def asked(head, case, k, exclude):
    hidden_BD, labels = batch(case["num_rows"], case["num_classes"], case["dim"], several=case["several"])
    if isinstance(labels, torch.Tensor):
        labels = labels.clone()
        labels[0] = -1
    head.calibration_temperature.fill_(0.5)
    found = head.answer(hidden_BD, labels, k=k, exclude=exclude)
    ids = torch.tensor([0, case["num_classes"] - 1, 0])
    own_ids = torch.arange(2 * len(hidden_BD)).view(-1, 2) % case["num_classes"]
    return {
        "ids": found.topk.class_ids,
        "ranks": found.label_ranks,
        "topk": found.topk.log_probs,
        "label_log_probs": found.label_log_probs,
        "square_sum": found.square_sum,
        "log_partition": head.log_partition(hidden_BD),
        "log_probs": head.log_probs(hidden_BD, ids),
        "own_log_probs": head.log_probs(hidden_BD, own_ids),
        "logits": head.logits(hidden_BD),
        "best": head.topk(hidden_BD, k).class_ids,
    }


def first_weights(world: World, case: dict[str, Any]) -> Tensor:
    sharded_head.DRAWN_AT_ONCE = 512
    head, _ = build(world, case)
    return whole(world, head, head.weight)


def local_smoothing(world: World, case: dict[str, Any]) -> float:
    """The loss with the smoothing of Megatron, which spreads over the classes of each part."""
    head, _ = build(world, case)
    elsewhere = replace(head.placement, num_classes=len(head.placement))
    hidden_BD, labels = batch(case["num_rows"], case["num_classes"], case["dim"], several=False)
    own_P = head.placement.holds(labels)
    return sharded_exact_loss(
        world,
        elsewhere,
        torch.full((len(labels),), 1 / len(labels)),
        (hidden_BD, head.weight, head.bias),
        Pairs.of(labels),
        torch.ones(len(labels)),
        own_P,
        None,
        options=(True, 1.0, case["options"]["label_smoothing"]),
    ).item()


def candidates(world: World, case: dict[str, Any], num_draws: int) -> list[list[int]]:
    """The own candidates of each draw of a sampled head, by their ids."""
    head, _ = build(world, case)
    labels = torch.tensor([0, 1])
    drawn = []
    for _ in range(num_draws):
        ids = head.options[0].sampler.draw(labels, case["options"]["num_sampled"], generator=head.generator)
        drawn.append(ids.class_ids[head.placement.holds(ids.class_ids)].tolist())
    return drawn


def refused(world: World, kind: str, options: dict[str, Any]) -> str:
    try:
        ShardedHead(kind, Classes(20, torch.ones(20)), 4, world=world, **options)
    except WidemaxError as error:
        return str(error)
    return "nothing"


def disagreement(world: World) -> str:
    agree(world, {"number of classes": 5})
    try:
        agree(world, {"seed": 1, "number of classes": 100 - (world.rank == 1)})
    except WidemaxError as error:
        return str(error)
    return "nothing"


def bags(step: int, num_rows: int, table_rows: int) -> RaggedTensor:
    """Bags of all rows, some of them empty, and the ids of some in several of them."""
    draw = torch.Generator().manual_seed(step)
    offsets_B1 = torch.tensor([0, *[row % 3 for row in range(num_rows)]]).cumsum(0)
    num_ids = int(offsets_B1[-1])
    ids_P = torch.randint(table_rows, (num_ids,), generator=draw)
    return RaggedTensor(offsets_B1, ids_P, torch.rand(num_ids, generator=draw))


def train_table(
    world: World, rows: TableRows, num_rows: int, table_rows: int, optimizer: str
) -> dict[str, Any]:
    """Sums of bags, and a table after steps on them, of which each process takes a share."""
    weight = nn.Parameter(rows.zeros(table_rows, 4))
    held = torch.arange(table_rows)[world.rank :: world.size][: len(weight)]
    ids = held if len(weight) < table_rows else torch.arange(table_rows)
    with torch.no_grad():
        weight.copy_(ids[:, None] + torch.arange(4))
    descent = optimizers[optimizer]([weight], lr=0.1, weight_decay=0.1)
    found = {}
    for step in range(3):
        bag, share = bags(step, num_rows, table_rows), world.share(num_rows)
        (first, last) = (int(bag.offsets[row]) for row in (share.start, share.stop))
        own = RaggedTensor(
            bag.offsets[share.start : share.stop + 1] - first, bag.ids[first:last], bag.values[first:last]
        )
        descent.zero_grad()
        sums_ND = rows.bag_sum(weight, own)
        (sums_ND.square().sum() / num_rows).backward()
        found[f"sums {step}"] = world.gather(sums_ND.detach())
        descent.step()
    descent.catch_up()
    found["table"] = torch.empty(table_rows, 4).index_copy(
        0, world.gather(ids), world.gather(weight.detach())
    )
    found["evaluated"] = world.gather(rows.bag_sum(weight.detach(), own))
    found["num_held"] = len(weight)
    return found


def train_split_table(world: World, *case: Any) -> dict[str, Any]:
    return train_table(world, SplitTable(world, whole_numel=0), *case)


def exchanged(world: World) -> dict[str, Any]:
    """Uneven rows there and back, and what the first process says."""
    rows = torch.arange(2.0 * world.rank).view(world.rank, 2) + 10 * world.rank
    counts = [rank for (rank,) in world.counts(world.rank)]
    there = world.gather(rows)
    return {
        "there": there,
        "back": torch.equal(world.scatter_sum(there, counts), world.size * rows),
        "told": world.tell("naïve ✓" if world.is_first else ""),
        "nothing": world.tell(),
        "any": world.any(world.rank == 1, False),
    }


def messages(world: World, sizes: list[list[tuple[int, int]]]) -> list[tuple[Tensor, list[list[int]]]]:
    """Hidden vectors and labels of all in each exchange, of as many rows and labels as a process has."""
    exchange, found = Exchange(world), []
    for step, of_ranks in enumerate(sizes):
        num_rows, num_labels = of_ranks[world.rank]
        labels = Pairs(torch.arange(num_labels) % max(num_rows, 1), 10 * step + torch.arange(num_labels))
        hidden_ND = torch.full((num_rows, 3), float(world.rank), dtype=torch.bfloat16)
        hidden_BD, pairs, _ = exchange(hidden_ND, labels)
        found.append((hidden_BD, torch.stack(tuple(pairs)).tolist()))
    return found


def config_of(path: str, out: str, sections: dict[str, Any] | None = None) -> Config:
    values = Config.load(path).model_dump(mode="json", exclude_none=True)
    values["output"] = {"dir": out}
    for name, section in (sections or {}).items():
        values[name] = {**values.get(name, {}), **section}
    return Config.from_dict(values)


def train_config(world: World, path: str, out: str, splits_tables: bool = True) -> dict[str, Any]:
    with patch.object(prepare, "WHOLE_NUMEL", 0 if splits_tables else prepare.WHOLE_NUMEL):
        outcome = widemax.train(config_of(path, out))
    return {"metrics": outcome.metrics, "steps": outcome.steps}


def train_narrow(world: World, path: str, out: str) -> set[torch.dtype]:
    """Train with class weights in bfloat16, however few they are; what they were held in."""
    held = set()

    def watched(*arguments: Any, **options: Any) -> tuple[float, int]:
        held.add(arguments[0].model.head.weight.dtype)
        return step(*arguments, **options)

    step = loop.take_step
    with patch.object(prepare, "ELEMENTWISE_NUMEL", 0), patch.object(loop, "take_step", watched):
        widemax.train(config_of(path, out, {"train": {"precision": "bfloat16"}}))
    return held


def stop_after(world: World, path: str, out: str, step: int) -> None:
    """As if one process, the last, were asked to stop after some steps."""

    class Stopping(PlainReporter):
        def step(self, *state: Any) -> None:
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == step:
                signal.raise_signal(signal.SIGTERM)

    with patch.object(prepare, "WHOLE_NUMEL", 0):
        widemax.train(config_of(path, out), reporter=Stopping(quiet=True))


def resume_run(world: World, run: str) -> None:
    with patch.object(prepare, "WHOLE_NUMEL", 0):
        widemax.resume(run)


def refused_config(world: World, path: str, out: str, sections: dict[str, Any]) -> str:
    try:
        widemax.train(config_of(path, out, sections))
    except WidemaxError as error:
        return str(error)
    return "nothing"


def small_blocks(path: Path, reading: Any) -> Any:
    return JsonLines(block_bytes=500) if path.suffix == ".jsonl" else format_of(path, reading)


def read_rows(world: World, paths: list[Path], scratch: Path) -> dict[str, Any]:
    """What training reads in all processes, and how many rows this one has read of the files."""
    schema = infer_schema(
        paths, inputs=["text", "number", "category", "history"], target="label", kinds={"history": "ids"}
    )
    dataset = Dataset(paths, schema, drop_bad=True, part=(world.rank, world.size))
    encoder = encoders["mixed"]([(column.name, column.kind) for column in schema.inputs], dim=4)
    if world.size > 1:
        for _, reader, _ in tables(encoder):
            reader.rows = SplitTable(world, whole_numel=0)
    folder = scratch / f"{world.rank}-of-{world.size}"
    folder.mkdir()
    options = {"seed": 0, "fitted": False, "world": world}
    small = patch.object(datasets, "format_of", small_blocks)
    with patch.object(world_module, "WORK_S", 0.0), patch.object(feed, "CHUNK_ROWS", 7), small:
        found, vocabulary = feed.read_training(dataset, encoder, folder, **options)
        num_bad = dataset.num_bad_rows
        num_read = sum(map(len, dataset.batches()))
    rows = found.take(np.arange(len(found)))
    return {
        "classes": (vocabulary.labels.to_pylist(), vocabulary.counts.tolist()),
        "labels": rows.labels.tolist(),
        "seen": (rows.seen.ids_P.tolist(), rows.seen.offsets_B1.tolist()),
        "keys": sorted(found.row_keys.to_pylist()) if world.is_first else None,
        "num_bad": num_bad,
        "first": None if found.first_N is None else found.first_N.tolist(),
        # A file that is mapped to be read cannot be changed, unlike a copy in memory.
        "copies": [part.is_mutable for part in vocabulary.labels.buffers() if part and world.size > 1],
        "hidden": encoder.eval()(rows.features).detach(),
        "num_read": num_read,
    }


ROWS_AT_ONCE = 50


def evaluated(world: World, run: str, rows: str) -> tuple[dict[str, Any], bool]:
    """All metrics of a model, from several batches, and whether this process wrote the page."""
    page = Path(run, f"page-{world.rank}-of-{world.size}.html")
    with patch.object(evaluation, "ROWS_AT_ONCE", ROWS_AT_ONCE):
        values = widemax.evaluate(widemax.Model.load(run), rows, report=page)
    return values, page.exists()


def predicted(world: World, run: str, rows: str, *options: str) -> tuple[int, str]:
    """The exit code of ``widemax predict``, and what it prints."""
    with patch.object(predict, "ROWS_AT_ONCE", ROWS_AT_ONCE), redirect_stdout(StringIO()) as said:
        code = exit_code("predict", run, rows, *options)
    return code, said.getvalue()


def hashed(world: World, paths: list[Path]) -> tuple[dict[Path, str], int]:
    """The hashes of files that all processes have found, and how many of them this one has read."""
    with patch.object(storage, "sha256", wraps=storage.sha256) as read:
        # Where a checkpoint has just gone, the others have found less: they hash what the first has found.
        return hashed_in_parts(paths if world.is_first else paths[:1]), read.call_count


NUM_SAVED = 11


def part(placement: Placement) -> dict[str, Tensor]:
    ids = placement.ids()
    return {
        "head.weight": ids[:, None] * torch.ones(1, 3),
        "head.bias": -ids.double(),
        "one": torch.tensor(2.0),
    }


def save_parts(folder: Path, size: int) -> None:
    for rank in range(size):
        placement = Placement(NUM_SAVED, size, rank)
        write_shard(folder, placement, part(placement))


def load_part(folder: Path, size: int, rank: int = 0) -> bool:
    """Whether what is read is what this process would hold."""
    placement = Placement(NUM_SAVED, size, rank)
    found, expected = read_shards(folder, placement), part(placement)
    return found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)


def resharded(folder: Path) -> list[bool]:
    found = []
    for size, others in ((4, (1, 3, 8, 20)), (3, (1, 4)), (20, (1, 3))):
        here = folder / str(size)
        here.mkdir()
        save_parts(here, size)
        found += [load_part(here, other, rank) for other in others for rank in range(other)]
    return found


def wide_memory(world: World, num_classes: int, dim: int) -> tuple[float, float]:
    """Peak memory beside that before the head was there, over the share of its weights; and the loss."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    torch.manual_seed(0)
    head = ShardedHead("sampled", num_classes, dim, world=world, sampler="log_uniform", num_sampled=4096)
    optimizer = optimizers["rowwise_adagrad"](head.parameters(), lr=0.1, rowwise=True)
    draw = torch.Generator().manual_seed(0)
    for _ in range(10):
        hidden_BD = torch.randn(256, dim, generator=draw)
        labels_B = torch.randint(num_classes, (256,), generator=draw)
        rows = world.share(256)
        optimizer.zero_grad()
        loss = head(hidden_BD[rows.start : rows.stop], labels_B[rows.start : rows.stop])
        loss.backward()
        optimizer.step()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    share = len(head.placement) * (dim + 1) * 4 + len(head.placement) * 2 * 4
    return (after - before) / share, loss.item()
