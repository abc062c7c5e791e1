"""What every registered encoder must do."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from made_sentences import made_model

from widemax.encoders import Encoder, FeatureStore, concatenate, encoders, num_rows, take, to_tensors
from widemax.encoders.features import Features, Ragged
from widemax.errors import ConfigError, CorruptError, DataError

ROWS = 40
PAIR = pa.struct([("index", pa.int64()), ("value", pa.float32())])


def columns(seed: int) -> dict[str, pa.Array]:
    """One column of each kind, named after it, with nulls where a kind allows them."""
    generator = np.random.default_rng(seed)
    words = np.array(["red", "green", "bläu", "東京", "x y", ""])
    lengths = generator.integers(0, 5, ROWS)
    return {
        "text": pa.array(
            [" ".join(generator.choice(words, n)) if n else None for n in lengths], pa.large_string()
        ),
        "number": pa.array([float(x) if x < 1 else None for x in generator.normal(size=ROWS)], pa.float64()),
        "date": pa.array(
            [1e9 * float(x) if x < 1 else None for x in generator.normal(size=ROWS)], pa.float64()
        ),
        "category": pa.array([w or None for w in generator.choice(words, ROWS)], pa.large_string()),
        "ids": pa.array(
            [generator.integers(0, 9, n).tolist() if n else None for n in lengths], pa.large_list(pa.int64())
        ),
        "vector": pa.FixedSizeListArray.from_arrays(
            pa.array(generator.normal(size=3 * ROWS).astype(np.float32)), 3
        ),
        "image": pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.uint8(), (4, 3, 2)),
            pa.FixedSizeListArray.from_arrays(pa.array(generator.integers(0, 256, 24 * ROWS, np.uint8)), 24),
        ),
        "sparse": pa.array(
            [[{"index": int(i), "value": 1.5} for i in generator.integers(0, 99, n)] for n in lengths],
            pa.large_list(PAIR),
        ),
    }


@pytest.fixture(params=list(encoders))
def name(request) -> str:
    return request.param


def build(name: str) -> Encoder:
    return encoders[name]([(kind, kind) for kind in sorted(encoders[name].kinds)], dim=6, **needed(name))


def needed(name: str) -> dict[str, str]:
    """What an encoder does not do without."""
    return {"model": made_model()} if name == "pretrained" else {}


def fitted(name: str, seed: int = 0) -> Encoder:
    encoder = build(name)
    encoder.fit([encoder.featurize(columns(0))], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():  # tables start at zero; numbers tell more
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return encoder.eval()


def hidden(encoder: Encoder, seed: int = 1) -> torch.Tensor:
    return encoder(to_tensors(encoder.encode(columns(seed))))


def assert_equal(ours: Features, theirs: Features) -> None:
    assert ours.keys() == theirs.keys()
    for key, entry in ours.items():
        for field in ("offsets_B1", "ids_P", "values_P") if isinstance(entry, Ragged) else ("T",):
            np.testing.assert_array_equal(getattr(entry, field), getattr(theirs[key], field))


def test_hidden_has_a_row_each_and_is_finite(name):
    encoder = fitted(name)
    result = hidden(encoder)
    assert result.shape == (ROWS, encoder.dim)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert len(result.unique(dim=0)) > 3


def test_rows_do_not_depend_on_their_neighbours(name):
    encoder = fitted(name)
    order = np.random.default_rng(2).permutation(ROWS)
    features = encoder.featurize(columns(1))
    assert num_rows(features) == ROWS
    shuffled = encoder(to_tensors(encoder.index(take(features, order))))
    torch.testing.assert_close(shuffled, hidden(encoder)[order])
    parts = [
        {key: column.slice(start, 13) for key, column in columns(1).items()} for start in range(0, ROWS, 13)
    ]
    assert_equal(concatenate([encoder.featurize(part) for part in parts]), features)


def test_featurize_needs_nothing_learned(name):
    assert_equal(build(name).featurize(columns(1)), fitted(name).featurize(columns(1)))


def test_same_seed_same_bits_whatever_the_chunks(name):
    whole, cut = build(name), build(name)
    features = whole.featurize(columns(0))
    whole.fit([features], generator=torch.Generator().manual_seed(3))
    pieces = (take(features, rows) for rows in np.array_split(np.arange(ROWS), 4))
    cut.fit(pieces, generator=torch.Generator().manual_seed(3))
    for key, tensor in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[key], tensor, msg=key, rtol=1e-12, atol=1e-12)
    again = build(name)
    again.fit([features], generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in whole.state_dict().items())


def test_restored_encoder_is_the_same(name):
    encoder, copy = fitted(name), build(name)
    state = encoder.state_dict()
    copy.restore(state)
    assert torch.equal(hidden(copy.eval()), hidden(encoder))
    assert all(torch.equal(copy.state_dict()[key], tensor) for key, tensor in state.items())
    with torch.no_grad():
        first = next(copy.parameters())
        first.add_(torch.linspace(1, 2, first.numel()).view_as(first))  # a norm takes a constant away
    assert not torch.equal(hidden(copy), hidden(encoder))  # the two share no memory


def test_a_state_becomes_the_encoders_own_without_a_copy(name):
    encoder, own = fitted(name), fitted(name)
    parameter = next(own.parameters())
    state = encoder.state_dict()
    own.restore(state, copy=False)
    assert torch.equal(hidden(own.eval()), hidden(encoder))
    assert all(tensor.data_ptr() == state[key].data_ptr() for key, tensor in own.state_dict().items())
    assert next(own.parameters()) is parameter  # where an optimizer looks for it


def test_a_wrong_state_is_refused(name):
    state = fitted(name).state_dict()
    key = next(iter(state))
    with pytest.raises(CorruptError, match="must hold"):
        build(name).restore({other: tensor for other, tensor in state.items() if other != key})
    with pytest.raises(CorruptError, match="float16"):
        build(name).restore({**state, key: state[key].half()})
    with pytest.raises(CorruptError, match="shape"):
        build(name).restore({**state, key: state[key][None]})


def test_features_survive_the_store(name, tmp_path):
    encoder = fitted(name)
    features = encoder.featurize(columns(1))
    writer = FeatureStore.create(tmp_path)
    for rows in np.array_split(np.arange(ROWS), 3):
        writer.append(take(features, rows))
    stored = encoder.index(writer.finish().take(np.arange(ROWS)))
    torch.testing.assert_close(encoder(to_tensors(stored)), hidden(encoder))


def test_all_parameters_learn(name):
    encoder = fitted(name)
    direction = torch.randn(ROWS, encoder.dim, generator=torch.Generator().manual_seed(0))
    (hidden(encoder, seed=0) * direction).sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.to_dense().abs().sum() > 0, key
        assert not parameter.grad.is_sparse or parameter.grad.is_coalesced()


def test_options_have_types_and_defaults(name):
    options = encoders.options(name).complete({"dim": 3, **needed(name)})
    assert options["dim"] == 3
    kind = min(encoders[name].kinds)
    assert encoders[name]([(kind, kind)], **options).dim == 3
    with pytest.raises(ConfigError):
        encoders.options(name).complete({"dim": 0})


def test_wrong_columns_are_refused(name):
    encoder = fitted(name)
    with pytest.raises(DataError, match="is missing"):
        encoder.featurize({})
    with pytest.raises(ConfigError, match="of kind 'sound'"):
        encoders[name]([("x", "sound")])


def test_encoder_without_rows(name):
    encoder = fitted(name)
    none = {key: column.slice(0, 0) for key, column in columns(1).items()}
    assert encoder(to_tensors(encoder.encode(none))).shape == (0, encoder.dim)


@pytest.mark.parametrize("kind", ["text", "ids", "sparse"])
def test_features_are_what_the_identity_as_table_would_give(kind):
    """Of dim "features" the hidden vector is sparse; times any table it is that of the table."""
    name = {"ids": "history"}.get(kind, kind)
    encoder = encoders[name]([(kind, kind)], dim="features")
    table = encoders[name]([(kind, kind)], dim=6)
    for each in (encoder, table):
        each.fit([each.featurize(columns(0))], generator=torch.Generator().manual_seed(0))
    weight = table.get_parameter("weight_FD")
    torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    sparse = hidden(encoder.eval())
    assert sparse.is_sparse
    assert sparse.shape == (ROWS, encoder.dim)
    torch.testing.assert_close(sparse.to_dense() @ weight, hidden(table.eval()))
    copy = encoders[name]([(kind, kind)], dim="features")
    copy.restore(encoder.state_dict())
    assert copy.dim == encoder.dim == len(weight)
    assert torch.equal(hidden(copy.eval()).to_dense(), sparse.to_dense())
