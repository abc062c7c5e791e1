"""Of a table that lies in several processes every row is read and moved as in one."""

import pytest
import torch
from tests.distributed import ranks

from widemax.distributed import SplitTable, World
from widemax.encoders import TableRows


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "lazy_adam"])
@pytest.mark.parametrize(("num_rows", "table_rows"), [(12, 7), (2, 2), (1, 1), (7, 300)])
def test_sums_and_steps_are_those_of_one_process(worlds, num_rows, table_rows, optimizer):
    case = num_rows, table_rows, optimizer
    expected = ranks.train_table(World(), TableRows(), *case)
    for size in (1, 2, 3):
        found = worlds(size).run(ranks.train_split_table, *case)
        assert sum(of_rank["num_held"] for of_rank in found) == table_rows
        for of_rank in found:
            for name in expected.keys() - {"num_held"}:
                torch.testing.assert_close(of_rank[name], expected[name], rtol=1e-6, atol=1e-6)


def test_two_runs_are_bitwise_equal(worlds):
    first, second = (worlds(3).run(ranks.train_split_table, 40, 30, "lazy_adam") for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["table"], other["table"])


def test_small_tables_are_copies():
    rows = SplitTable(World(1, 3), whole_numel=40)
    assert [len(rows.zeros(10, dim)) for dim in (4, 5)] == [10, 3]
