"""Packed matrices come back with the error of their precision, and without their shortest rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from widemax.errors import ConfigError, CorruptError
from widemax.packing import Precision, pack, unpack

# Half a step of the precision, relative to the largest weight of the row.
ERRORS = {"float32": 0.0, "float16": 2.0**-11, "int8": 0.5 / 127 * 1.0001}


@given(
    weights=arrays(
        np.float32,
        st.tuples(st.integers(0, 6), st.integers(1, 4)),
        elements=st.floats(-60000, 60000, width=32),
    ),
    precision=st.sampled_from(list(ERRORS)),
)
def test_weights_come_back_within_the_step_of_their_precision(
    weights: np.ndarray, precision: Precision
) -> None:
    matrix_FD = torch.from_numpy(weights)
    found_FD = unpack(pack({"part.weight": matrix_FD}, precision=precision))["part.weight"]
    assert found_FD.dtype == torch.float32
    bound_F1 = ERRORS[precision] * matrix_FD.abs().amax(1, keepdim=True) + 2.0**-25
    assert ((found_FD - matrix_FD).abs() <= bound_F1).all()


@given(
    weights=arrays(
        np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-9, 9, width=32)
    ),
    keep=st.floats(0.05, 1.0),
)
def test_the_longest_rows_hold_the_share_that_was_asked_for(weights: np.ndarray, keep: float) -> None:
    matrix_FD = torch.from_numpy(weights)
    found_FD = unpack(pack({"w": matrix_FD}, precision="float32", keep=keep))["w"]
    kept_F = (found_FD != 0).any(1)
    assert torch.equal(found_FD[kept_F], matrix_FD[kept_F])
    squares_F = matrix_FD.double().square().sum(1)
    assert squares_F[kept_F].sum() >= keep * squares_F.sum() * (1 - 1e-12)
    if kept_F.any() and not kept_F.all():
        shortest = squares_F[kept_F].min()
        assert shortest >= squares_F[~kept_F].max()
        assert keep == 1.0 or squares_F[kept_F].sum() - shortest < keep * squares_F.sum() * (1 + 1e-12)


def test_only_float32_matrices_are_packed() -> None:
    tensors = {"ids": torch.arange(3), "bias": torch.ones(3), "half": torch.ones(2, 2).bfloat16()}
    assert pack(tensors, precision="int8", keep=0.5) == tensors
    assert pack(tensors | {"w": torch.ones(2, 2)}, precision="float32").keys() == {*tensors, "w"}


def test_weights_too_large_for_float16_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'w' holds weights above 65,504.*int8"):
        pack({"w": torch.tensor([[7e4]])}, precision="float16")


@pytest.mark.parametrize(
    "change",
    [
        {"w@int8": None},
        {"w@scale": None},
        {"w@scale": torch.ones(1, 1)},
        {"w@kept": torch.tensor([True, False, False])},
        {"w@kept": torch.ones(3)},
        {"w@float16": torch.ones(3, 2).half()},
        {"w@int8": torch.ones(3, dtype=torch.int8)},
    ],
    ids=str,
)
def test_parts_that_do_not_agree_are_refused(change: dict[str, torch.Tensor | None]) -> None:
    packed = pack({"w": torch.ones(3, 2)}, precision="int8") | change
    with pytest.raises(CorruptError, match="'w' do not agree"):
        unpack({name: tensor for name, tensor in packed.items() if tensor is not None})
