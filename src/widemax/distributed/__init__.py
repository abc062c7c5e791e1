"""Training over several processes: class weights split by rows, encoders alike on all, the same numbers."""

from widemax.distributed.agree import agree
from widemax.distributed.placement import Placement
from widemax.distributed.sharded_head import SHARDED, ShardedHead
from widemax.distributed.world import World, joined, world_size

__all__ = ["SHARDED", "Placement", "ShardedHead", "World", "agree", "joined", "world_size"]
