"""Columns of several kinds: one encoder for each kind, their hidden vectors added up."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial, reduce
from typing import Any, ClassVar, TypeVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from widemax.encoders.base import Chunks, Encoder, encoders
from widemax.encoders.features import Features, Tensors
from widemax.encoders.mlp import MLP
from widemax.errors import ConfigError, UsageError, did_you_mean
from widemax.options import AtLeast1, checked

T = TypeVar("T")

_DEFAULT = {
    "text": "text",
    "number": "table",
    "date": "table",
    "category": "table",
    "ids": "history",
    "sparse": "sparse",
    "vector": "vector",
    "image": "image",
}


@checked
def default_encoder(kinds: Collection[str]) -> str:
    """The name of the encoder for columns of the given kinds.

    Raises:
        UsageError: no kind, or one that no encoder reads.

    Example:
        >>> default_encoder(["number", "category"]), default_encoder(["text", "number"])
        ('table', 'mixed')
    """
    if not kinds:
        raise UsageError("an encoder needs at least one input column; got none. Name them with --input.")
    for kind in kinds:
        if kind not in _DEFAULT:
            raise UsageError(
                f"no encoder reads columns of kind {kind!r}; {did_you_mean(kind, list(_DEFAULT))}"
            )
    names = {_DEFAULT[kind] for kind in kinds}
    return names.pop() if len(names) == 1 else "mixed"


def _below(features: Mapping[str, T], name: str) -> dict[str, T]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): found for key, found in features.items() if key.startswith(prefix)}


def _all_below(chunks: Chunks, name: str) -> Iterator[Features]:
    return (_below(features, name) for features in chunks())


FIRST_SHARE = 0.01
"""What a perceptron says at first beside bags, which say nothing, of what it says alone."""


@encoders.register("mixed")
class MixedEncoder(Encoder):
    """Columns of several kinds: hidden = Σ_k encoder_k(columns of kind k).

    Numbers, dates and categories share one "table" encoder; see `default_encoder` for the others.

    Args:
        columns: (name, kind) of columns of any kinds.
        dim: width D of the hidden vector of every part.
        parts: options of the parts by the name of their encoder, such as ``{"text": {"word_ngrams": 1}}``. A
            part that is no column's default, "pretrained", reads beside the others all columns that it can.

    Raises:
        ConfigError: options for an encoder that reads none of the columns, or options it does not have.

    Example:
        >>> columns = [("title", "text"), ("price", "number")]
        >>> encoder = MixedEncoder(columns, parts={"text": {"word_ngrams": 1}})
        >>> sorted(encoder.parts)
        ['table', 'text']
    """

    kinds: ClassVar[frozenset[str]] = frozenset(_DEFAULT)
    waits = frozenset({"unique", "select"})
    # One optimizer for bags and perceptrons alike: Adagrad's first steps throw perceptrons far off.
    optimizer = "lazy_adam"
    learning_rate = 5e-3

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: AtLeast1 = 256,
        parts: dict[str, dict[str, Any]] = {},  # noqa: B006 - read only; the registry shows it as the default
    ) -> None:
        super().__init__(columns, dim=dim)
        kinds = {kind for _, kind in self.columns}
        names = {default_encoder([kind]) for kind in kinds}
        known = sorted(name for name in {*encoders} - {"mixed"} if encoders[name].kinds & kinds)
        for name in parts:
            if name not in known:
                raise ConfigError(f"these columns have no part {name!r}; {did_you_mean(name, known)}")
        self.parts = nn.ModuleDict()
        for name in sorted(names.union(parts)):
            own = [column for column in self.columns if column[1] in encoders[name].kinds]
            options = encoders.options(name).complete({**parts.get(name, {}), "dim": dim})
            self.parts[name] = encoders[name](own, **options)

    def _parts(self) -> Iterator[tuple[str, Encoder]]:
        for name, part in self.parts.items():
            assert isinstance(part, Encoder)
            yield name, part

    @property
    def operations(self) -> int:
        """Multiplications of a row in `forward`."""
        return sum(part.operations for _, part in self._parts())

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        return {
            f"{name}/{key}": found
            for name, part in self._parts()
            for key, found in part.featurize(columns).items()
        }

    def begin(self) -> None:
        for _, part in self._parts():
            part.begin()

    def observe(self, features: Features) -> None:
        for name, part in self._parts():
            part.observe(_below(features, name))

    def finish(self, *, generator: torch.Generator) -> None:
        for _, part in self._parts():
            part.finish(generator=generator)
            for module in part.modules():
                if isinstance(module, MLP):  # says little at first, as bags do, in place of noise
                    module.weights[-1].detach().mul_(FIRST_SHARE)

    def numbers(self, features: Tensors) -> Tensor | None:
        found = (part.numbers(_below(features, name)) for name, part in self._parts())
        return next((numbers_BN for numbers_BN in found if numbers_BN is not None), None)

    def step_factors(self) -> Iterator[tuple[nn.Parameter, float]]:
        for _, part in self._parts():
            # Perceptrons take smaller steps than bags: at those of bags their first ones go far off.
            slower = part.learning_rate / self.learning_rate if part.optimizer == self.optimizer else 1.0
            yield from ((parameter, slower) for parameter in part.parameters())

    def laws(self) -> Iterator[tuple[bool, str]]:
        for _, part in self._parts():
            yield from part.laws()

    def prepare(self) -> None:
        for _, part in self._parts():
            part.prepare()

    def index(self, features: Features) -> Features:
        return {
            f"{name}/{key}": found
            for name, part in self._parts()
            for key, found in part.index(_below(features, name)).items()
        }

    def weigh(self, chunks: Chunks) -> None:
        for name, part in self._parts():
            part.weigh(partial(_all_below, chunks, name))

    def forward(self, features: Tensors) -> Tensor:
        hidden_parts: list[Tensor] = [part(_below(features, name)) for name, part in self._parts()]
        return reduce(torch.add, hidden_parts)
