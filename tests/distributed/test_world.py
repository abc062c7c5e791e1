"""What processes ask of one another, and what each says of one that sees something else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.distributed import ranks

from widemax.distributed import Placement, World, joined


@pytest.mark.parametrize("size", [1, 2, 3])
def test_uneven_rows_go_there_and_back(worlds, size):
    rows = [torch.arange(2.0 * rank).view(rank, 2) + 10 * rank for rank in range(size)]
    for found in worlds(size).run(ranks.exchanged):
        assert torch.equal(found["there"], torch.cat(rows))
        assert found["back"]
        assert (found["told"], found["nothing"]) == ("naïve ✓", "")
        assert found["any"] == [size > 1, False]


def test_who_sees_something_else_is_named(worlds):
    said = worlds(3).run(ranks.disagreement)
    assert all("process 1 has another number of classes than process 0" in sentence for sentence in said)
    assert "(here 99)" in said[1]


def test_one_process_is_a_world_that_does_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(1.0) as world:
        assert world == World()
    tensor = torch.ones(2)
    assert world.sum(tensor) is tensor
    assert world.gather(tensor) is tensor
    assert world.share(5) == range(5)


@given(num_rows=st.integers(0, 50), size=st.integers(1, 9))
def test_shares_are_even_and_all_rows(num_rows, size):
    shares = [World(rank, size).share(num_rows) for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(num_rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(num_classes=st.integers(1, 60), num_shards=st.integers(1, 9))
def test_every_class_has_one_place(num_classes, num_shards):
    parts = [Placement(num_classes, num_shards, shard) for shard in range(num_shards)]
    held = [part.ids() for part in parts]
    assert torch.cat(held).sort().values.tolist() == list(range(num_classes))
    every = torch.arange(num_classes)
    for part, ids in zip(parts, held, strict=True):
        assert len(ids) == len(part) <= part.largest
        assert torch.equal(every[part.holds(every)], ids)
        assert part.rows(ids).tolist() == list(range(len(part)))
        # Of a class elsewhere: how many of the own ones come before it.
        before = np.searchsorted(ids.numpy(), every.numpy())
        assert part.rows(every).tolist() == before.tolist()
