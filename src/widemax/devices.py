"""What tensors are computed on, and in which precision."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from widemax.errors import ConfigError

NAMES = "auto", "cpu", "cuda", "mps"
CPU = torch.device("cpu")


def device_of(name: str, *, key: str = "device") -> torch.device:
    """The device that a word names on this machine.

    "auto" is a GPU of NVIDIA or AMD ("cuda") where there is one, and the CPU elsewhere. It is never "mps",
    the GPU of a Mac: that has no float64, in which exact answers are summed.

    Args:
        name: "auto", "cpu", "cuda" or "mps".
        key: where the word was given, for the sentence that refuses it.

    Raises:
        ConfigError: this machine, or this build of torch, has no such device.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if there["cuda"] else "cpu"
    if name not in there:
        raise ConfigError(f"{key} must be one of {list(NAMES)}; got {name!r}.")
    if not there[name]:
        found = [known for known, is_here in there.items() if is_here]
        raise ConfigError(
            f"{key} is {name!r}, but torch {torch.__version__} finds no such device here; choose 'auto' or "
            f"one of those that are here, {found}."
        )
    return torch.device(name)


def on_the_cpu(
    device: str, precision: str, what: str, *, precisions: Sequence[str] = ("float32",)
) -> dict[str, str]:
    """The device and precision of what is trained on the CPU alone, named in the plural.

    Raises:
        ConfigError: another device is asked for, or none of the precisions.
    """
    for key, value, known in (("device", device, ("auto", "cpu")), ("precision", precision, precisions)):
        if value not in known:
            raise ConfigError(
                f"train.{key} is {value!r}, but {what} are trained on the CPU in {' or '.join(precisions)}; "
                "leave it out."
            )
    return {"device": "cpu", "precision": precision}


def answering_device(device: torch.device) -> torch.device:
    """Where exact answers are computed by a model that is trained on a device: on it, if it has float64."""
    return CPU if device.type == "mps" else device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """A context in which products are taken in a precision, "float32" or "bfloat16".

    Example:
        >>> with autocast(torch.device("cpu"), "bfloat16"):
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.bfloat16
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def repeatable(device: torch.device, seed: int) -> Iterator[None]:
    """Randomness that starts from a seed, and sums in one order, so that a device gives the same bits again.

    What is set, and the randomness of the program, are set back.
    """
    if device == CPU:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
        return
    was_set = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[0], device_type=device.type):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_set)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's own randomness, by their names in a checkpoint."""
    states = {"torch": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = getattr(torch, device.type).get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Take the states of torch's randomness out of a checkpoint's, and go on from them."""
    torch.set_rng_state(states.pop("torch"))
    for name in {"cuda", "mps"} & states.keys():
        getattr(torch, name).set_rng_state(states.pop(name))
