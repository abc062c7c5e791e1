"""Heads and hidden vectors to try. Shapes: B rows, D hidden."""

from collections.abc import Callable

import torch
from torch import Tensor

from widemax.heads import CountingHead, Head

Factory = Callable[[int, int], Head]

CLASSES, DIM, ROWS = 23, 5, 7


def build(factory: Factory, num_classes: int = CLASSES, seed: int = 0) -> Head:
    """A head whose parameters are all random, biases too, or one that has counted random rows."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        head = factory(num_classes, DIM)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.copy_(torch.randn(parameter.shape))
        if isinstance(head, CountingHead):
            head.partial_fit(torch.rand(50, DIM), torch.randint(num_classes, (50,)))
            head.finish()
    head.seed(seed)
    return head


def some_hidden(num_rows: int = ROWS, dtype: torch.dtype = torch.float32) -> Tensor:
    """[B, D] random hidden vectors."""
    return torch.randn(num_rows, DIM, generator=torch.Generator().manual_seed(1)).to(dtype)


def some_labels() -> Tensor:
    """[B] labels, the first and the last class among them."""
    return torch.tensor([0, CLASSES - 1, 3, 3, 7, 11, 1])


def replayed(head: Head) -> Callable[..., Tensor]:
    """The training loss of hidden vectors with some labels, from one training state every time."""
    state = copied(head.training_state())

    def loss(hidden: Tensor, **options: object) -> Tensor:
        head.load_training_state(copied(state))
        value: Tensor = head(hidden, some_labels(), **options)
        return value

    return loss


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state that later steps cannot change."""
    return {name: value.clone() for name, value in state.items()}
