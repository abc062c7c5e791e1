"""Whether all processes see the same: those that do not would train something else without a word."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch

from widemax.distributed.world import World
from widemax.errors import DataError


def agree(world: World, facts: Mapping[str, Any]) -> None:
    """Hold what all processes see to what the first one sees; each must name the same facts.

    Args:
        world: the processes.
        facts: what must be the same, by a name that a sentence can hold.

    Raises:
        DataError: names what differs first, and in which process.

    Example:
        >>> agree(World(), {"the number of classes": 5})
    """
    digests = b"".join(sha256(repr(value).encode("utf-8")).digest() for value in facts.values())
    found = world.stack(torch.frombuffer(bytearray(digests), dtype=torch.uint8)).view(world.size, -1, 32)
    for index, (name, value) in enumerate(facts.items()):
        differ = (found[:, index] != found[0, index]).any(1).nonzero().flatten().tolist()
        if differ:
            own = f" (here {str(value)[:80]})" if len(str(value)) < 80 else ""
            raise DataError(
                f"process {differ[0]} has another {name} than process 0{own}: all must have the same "
                "versions, config and data."
            )
