"""Class weights are what the encoder says of the classes, and what each class has of its own."""

import pyarrow as pa
import torch

from widemax.encoders import ClassTower, TextEncoder, to_tensors

NAMES = ("green tea", "black tea", "ink", "")


def build() -> ClassTower:
    encoder = TextEncoder([("name", "text")], dim=6)
    names = encoder.featurize({"name": pa.array(NAMES)})
    encoder.fit([names], generator=torch.Generator())
    return ClassTower(encoder, encoder.index(names), generator=torch.Generator().manual_seed(0))


def test_weights_are_encoded_columns_and_own_rows() -> None:
    tower = build().eval()
    own_CD = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    weight_CD = tower(own_CD)
    encoded = tower.encoder.bag(to_tensors(tower.encoder.encode({"name": pa.array(NAMES)})))
    table = tower.encoder.weight_FD
    for row, (first, last) in enumerate(zip(encoded.offsets, encoded.offsets[1:], strict=False)):
        ids, values = encoded.ids[first:last], encoded.values[first:last]
        torch.testing.assert_close(weight_CD[row], own_CD[row] + values @ table[ids])
    torch.testing.assert_close(weight_CD[3], own_CD[3])  # nothing is known of it
    some = torch.tensor([3, 0, 1])
    torch.testing.assert_close(tower(own_CD[some], some), weight_CD[some])


def test_it_begins_at_random_with_the_seed() -> None:
    weight_CD = build().eval()(torch.zeros(4, 6))
    assert (weight_CD[:3].norm(dim=1) > 0).all()
    assert torch.equal(build().eval()(torch.zeros(4, 6)), weight_CD)
