"""Each item of a history looks back alone, and the hidden vector is of what follows the last one."""

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from widemax.encoders import SequenceEncoder, to_tensors
from widemax.errors import ConfigError

HISTORIES: list[list[int] | None] = [[5, 7, 5], [7], [], None, [9, 8, 7, 6, 5]]


def column(histories: list[list[int] | None]) -> dict[str, pa.Array]:
    return {"seen": pa.array(histories, pa.large_list(pa.int64()))}


def fitted(**options: int) -> SequenceEncoder:
    encoder = SequenceEncoder([("seen", "ids")], dim=6, **options)
    encoder.fit([encoder.featurize(column(HISTORIES))], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoder.start_D.normal_(generator=torch.Generator().manual_seed(1))
    return encoder.eval()


def hidden(encoder: SequenceEncoder, *histories: list[int] | None, every_position: bool = False) -> Tensor:
    features = to_tensors(encoder.encode(column(list(histories))))
    return encoder(features, every_position=every_position)


def test_every_position_is_the_last_one_of_what_stands_before_it() -> None:
    encoder = fitted()
    found = hidden(encoder, *HISTORIES, every_position=True)
    prefixes = [
        history[:at] for row in HISTORIES for history in [row or []] for at in range(len(history) + 1)
    ]
    torch.testing.assert_close(found, torch.cat([hidden(encoder, prefix) for prefix in prefixes]))


def test_the_order_of_items_means_something_and_other_rows_do_not() -> None:
    encoder = fitted()
    one, turned = hidden(encoder, [9, 8, 7]), hidden(encoder, [8, 9, 7])
    assert not torch.allclose(one, turned, atol=1e-3)
    torch.testing.assert_close(hidden(encoder, [9, 8, 7], [5])[:1], one)


def test_strangers_have_a_vector_and_unknown_items_are_left_out() -> None:
    encoder = fitted()
    torch.testing.assert_close(hidden(encoder, []), hidden(encoder, [1234]))
    torch.testing.assert_close(hidden(encoder, [9, 1234, 8]), hidden(encoder, [9, 8]))
    assert hidden(encoder, []).abs().sum() > 0


def test_the_latest_items_are_looked_at() -> None:
    encoder = fitted(max_length=2)
    torch.testing.assert_close(hidden(encoder, [7, 6, 5]), hidden(encoder, [5, 6, 5]))
    assert not torch.allclose(hidden(encoder, [7, 6, 5]), hidden(encoder, [7, 5]), atol=1e-3)


def test_building_one_draws_no_random_number() -> None:
    state = torch.get_rng_state()
    SequenceEncoder([("seen", "ids")])
    assert torch.equal(torch.get_rng_state(), state)


def test_it_reads_one_column() -> None:
    with pytest.raises(ConfigError, match="one column of items"):
        SequenceEncoder([("seen", "ids"), ("bought", "ids")])
