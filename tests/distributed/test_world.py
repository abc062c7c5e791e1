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


def test_messages_grow_and_hold_what_each_has(worlds):
    """More than any had before, nothing, fewer again; three bfloat16 are no whole number of words."""
    sizes = [
        [(2, 2), (0, 0), (1, 3)],
        [(1, 1), (7, 9), (0, 0)],
        [(0, 0), (0, 0), (0, 0)],
        [(1, 2), (1, 1), (1, 1)],
    ]
    for found in worlds(3).run(ranks.messages, sizes):
        for step, (of_ranks, (hidden_BD, pairs)) in enumerate(zip(sizes, found, strict=True)):
            expected = [rank for rank, (num_rows, _) in enumerate(of_ranks) for _ in range(num_rows)]
            assert hidden_BD.tolist() == [[rank] * 3 for rank in expected]
            rows, ids, first = [], [], 0
            for num_rows, num_labels in of_ranks:
                rows += [first + number % max(num_rows, 1) for number in range(num_labels)]
                ids += [10 * step + number for number in range(num_labels)]
                first += num_rows
            assert pairs == [rows, ids]


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
