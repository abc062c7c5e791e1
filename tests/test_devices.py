"""Words name devices; an absent one is refused; a block of work gives the same randomness again."""

import pytest
import torch

from widemax.devices import (
    CPU,
    answering_device,
    autocast,
    device_of,
    random_states,
    repeatable,
    set_random_states,
)
from widemax.errors import ConfigError


def test_auto_is_a_gpu_that_has_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        for mps in (False, True):
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
            assert device_of("auto") == torch.device("cuda" if cuda else "cpu")
    assert device_of("mps") == torch.device("mps")
    assert answering_device(torch.device("mps")) == CPU
    assert answering_device(torch.device("cuda")) == torch.device("cuda")


def test_an_absent_device_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ConfigError,
        match=r"train\.device is 'cuda', but torch .* finds no such device here; .* that are here, \['cpu'",
    ):
        device_of("cuda", key="train.device")
    with pytest.raises(
        ConfigError, match=r"device must be one of \['auto', 'cpu', 'cuda', 'mps'\]; got 'tpu'"
    ):
        device_of("tpu")


def test_precision_is_that_of_products() -> None:
    ones = torch.ones(2, 2)
    for precision in ("float32", "bfloat16"):
        with autocast(CPU, precision):
            assert (ones @ ones).dtype == getattr(torch, precision)


def test_randomness_begins_at_the_seed_and_is_given_back() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with repeatable(CPU, 7):
            assert not torch.are_deterministic_algorithms_enabled()
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.get_rng_state(), before)


def test_states_go_through_a_checkpoint() -> None:
    with repeatable(CPU, 0):
        states = random_states(CPU)
        drawn = torch.rand(3)
        states["head.generator"] = torch.zeros(1)
        set_random_states(states)
        assert list(states) == ["head.generator"]
        assert torch.equal(torch.rand(3), drawn)
