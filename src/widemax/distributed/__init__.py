"""Training over several processes: class weights split by rows, encoders alike on all, the same numbers."""

from widemax.distributed.agree import agree
from widemax.distributed.exchange import Messages
from widemax.distributed.gradients import sum_gradients
from widemax.distributed.sharded_head import SHARDED, ShardedHead
from widemax.distributed.shards import (
    new_shared_folder,
    read_shards,
    read_whole_rows,
    shape_of_shards,
    write_shard,
)
from widemax.distributed.split_table import SplitTable, placed, tables
from widemax.distributed.world import ALONE, World, joined, world_size
from widemax.encoders.placement import Placement

__all__ = [
    "ALONE",
    "SHARDED",
    "Messages",
    "Placement",
    "ShardedHead",
    "SplitTable",
    "World",
    "agree",
    "joined",
    "new_shared_folder",
    "placed",
    "read_shards",
    "read_whole_rows",
    "shape_of_shards",
    "sum_gradients",
    "tables",
    "world_size",
    "write_shard",
]
