"""A history of items read in its order by a causal Transformer."""

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from widemax.encoders.bag import bag_sum
from widemax.encoders.base import encoders
from widemax.encoders.features import Features, Ragged, RaggedTensor, Tensors, entry, list_offsets
from widemax.encoders.hashing import salt, stable_keys
from widemax.encoders.keyed import KeyedEncoder
from widemax.errors import ConfigError
from widemax.options import AtLeast1
from widemax.sequences import Transformer, dropout
from widemax.sequences.dropout import Rate
from widemax.sequences.layers import NumLayers


@encoders.register("sequence")
class SequenceEncoder(KeyedEncoder):
    """Items seen so far, each looking at itself and those before it: what follows the last one.

    A start of its own stands before the first item, so that a stranger has a hidden vector too; items not
    seen in training are left out. Attention turns queries and keys by their positions, so it knows how long
    ago an item was. Trained on events, it learns at every position of a history what came next there.

    Args:
        columns: (name, kind) of the one column of item ids, oldest first.
        dim: width D of the hidden vector.
        num_layers: of the Transformer.
        num_heads: of attention, each of D / num_heads numbers, rounded up to an even number.
        hidden_dim: numbers between the two maps of a feed-forward net; 4 D where it is not given.
        rate: the dropout.
        max_length: latest items looked at.

    Raises:
        ConfigError: several columns.

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, with a softmax over
    all or sampled items as in Klenitskiy and Vasilev, "Turning dross into gold loss", RecSys 2023.

    Example:
        >>> histories = pa.array([[7, 8], [8], None], pa.large_list(pa.int64()))
        >>> encoder = SequenceEncoder([("seen", "ids")], dim=4)
        >>> encoder.fit([encoder.featurize({"seen": histories})], generator=torch.Generator())
        >>> encoder.encode({"seen": histories})["seen"].ids_P.shape
        (3,)
    """

    kinds = frozenset({"ids"})
    smooths_labels = False
    optimizer = "lazy_adam"
    learning_rate = 0.002

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: AtLeast1 = 64,
        num_layers: NumLayers = 2,
        num_heads: AtLeast1 = 1,
        hidden_dim: AtLeast1 | None = None,
        rate: Rate = 0.2,
        max_length: AtLeast1 = 100,
    ) -> None:
        super().__init__(columns, dim=dim)
        if len(self.columns) > 1:
            names = [name for name, _ in self.columns]
            raise ConfigError(f"a sequence is one column of items; got {names}. Name one, or take 'history'.")
        self.rate, self.max_length = rate, max_length
        with torch.random.fork_rng(devices=[]):  # `finish` draws the weights
            options = {"num_heads": num_heads, "head_dim": 2 * -(-dim // (2 * num_heads)), "rotary": True}
            self.transformer = Transformer(num_layers, dim=dim, hidden_dim=hidden_dim, rate=rate, **options)
        self.start_D = nn.Parameter(torch.zeros(dim))

    @property
    def operations(self) -> int:
        """Multiply-adds of one row: every weight of the layers at every position."""
        return self.max_length * sum(parameter.numel() for parameter in self.transformer.parameters())

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        name, _ = self.columns[0]
        histories = self.column(columns, name)
        keys_P = stable_keys(histories.flatten(), salt=salt(name, "item"))
        bag = Ragged(list_offsets(histories), keys_P, np.ones(len(keys_P), dtype=np.float32))
        distance_P = bag.offsets_B1[1:][bag.rows] - np.arange(len(keys_P))
        return {name: bag.where(distance_P <= self.max_length)}

    def finish(self, *, generator: torch.Generator) -> None:
        super().finish(generator=generator)
        size = len(self.keys_F), self.dim
        self.weight_FD = nn.Parameter(torch.randn(size, generator=generator) / sqrt(self.dim))
        for parameter in self.transformer.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)

    def forward(self, features: Tensors, *, every_position: bool = False) -> Tensor:
        """What follows the last item of each row [B, D]; or the start and each of P items [B + P, D]."""
        offsets_B1, items_P, _ = entry(features, self.columns[0][0], RaggedTensor)
        if len(offsets_B1) == 1:
            return self.start_D.new_empty(0, self.dim)
        lengths_B = offsets_B1.diff() + 1
        is_token_BT = torch.arange(int(lengths_B.max()), device=items_P.device) < lengths_B[:, None]
        is_item_BT = is_token_BT.clone()
        is_item_BT[:, 0] = False
        tokens_BTD = self.start_D.expand(*is_token_BT.shape, -1)
        alone = RaggedTensor(torch.arange(len(items_P) + 1), items_P, torch.ones(len(items_P)))
        items_PD = bag_sum(self.weight_FD, alone)
        tokens_BTD = tokens_BTD.masked_scatter(is_item_BT[:, :, None], items_PD)
        if self.training:
            tokens_BTD = dropout(tokens_BTD, self.rate)
        # What stands after the last item is seen by nobody: attention looks back.
        found: Tensor = self.transformer(tokens_BTD, is_causal=True)
        return found[is_token_BT] if every_position else found[torch.arange(len(found)), lengths_B - 1]
