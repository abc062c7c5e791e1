"""What encoders share that know items, or indices, by their keys. Shapes: F known keys, D hidden."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from widemax.encoders.base import Dim, Encoder
from widemax.encoders.features import Features, Ragged, entry
from widemax.encoders.keys import KeyIndex, KeySet, rise


class KeyedEncoder(Encoder):
    """An encoder of bags of keys, with a row of weights for each key that was seen in training."""

    keys_F: Tensor

    def __init__(self, columns: Sequence[tuple[str, str]], *, dim: Dim) -> None:
        super().__init__(columns, dim=dim)
        self.weight_FD = nn.Parameter(torch.empty(0, self.dim))
        self.register_buffer("keys_F", torch.empty(0, dtype=torch.int64))

    def begin(self) -> None:
        self._seen = KeySet()

    def observe(self, features: Features) -> None:
        for name in features:
            self._seen.update(entry(features, name, Ragged).ids_P)

    def finish(self, *, generator: torch.Generator) -> None:
        self.keys_F = torch.from_numpy(self._seen.sorted())
        # Zeros: the head starts random, so gradients flow, and keys not yet met say nothing.
        self.weight_FD = nn.Parameter(self.rows.zeros(len(self.keys_F), self.dim))

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield rise(self.keys_F), "keys that rise"
        is_whole = len(self.weight_FD) == len(self.rows.place(len(self.keys_F), self.weight_FD.shape[1]))
        yield is_whole, "a row of weights for each key"

    def prepare(self) -> None:
        self._known = KeyIndex(self.keys_F.cpu().numpy())
        self.dim = self.weight_FD.shape[1] or len(self.weight_FD)

    def index(self, features: Features) -> Features:
        return {name: self._known.look_up(entry(features, name, Ragged)) for name in features}
