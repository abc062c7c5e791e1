"""What every encoder does: raw columns to features, features to a hidden vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

from widemax.encoders.bag import TableRows
from widemax.encoders.features import Features, Tensors
from widemax.errors import ArgumentError, ConfigError, CorruptError, DataError, shown
from widemax.options import AtLeast1, checked
from widemax.registry import Registry

Dim = AtLeast1 | Literal["features"]
"""The width D of the hidden vector, or "features": it is the sparse row of features itself, which the head
"counts" takes. The table of embeddings has then no columns and stands for the identity."""

Chunks = Callable[[], Iterable[Features]]


class Encoder(nn.Module, ABC):
    """Turns raw columns into hidden vectors: ``forward(index(featurize(columns)))``.

    `featurize` looks at the raw values and at nothing learned, so its result can be stored. `fit` learns once
    what to look up (vocabularies, means) and creates the parameters. `index` maps features to what `forward`
    looks up. Everything learned lives in parameters and buffers: ``state_dict()`` is the whole state.

    Args:
        columns: (name, kind) of each input column.
        dim: width D of the hidden vector, or "features" in an encoder that has such rows.

    Attributes:
        kinds: the column kinds it takes.
        counted_options: its options for a head that counts, where a config names none; empty where it has no
            rows of features.
        table_name: of its parameter, if any, that is a table which is read through ``rows`` alone, so that
            several processes can hold some of it each.
        rows: where that table lies.
        smooths_labels: whether the exact softmax smooths labels where a config does not say.
        waits: what a training step of it waits for on an accelerator, in the words of
            :class:`widemax.heads.Head`.
        optimizer: the optimizer that suits it, with its ``learning_rate``, where a config names none.
        fades: whether what came late says more than what came early.
    """

    kinds: ClassVar[frozenset[str]]
    counted_options: ClassVar[Mapping[str, Any]] = {}
    table_name: ClassVar[str] = ""
    rows: TableRows = TableRows()
    smooths_labels: ClassVar[bool] = True
    waits: ClassVar[frozenset[str]] = frozenset()
    optimizer: ClassVar[str] = "rowwise_adagrad"
    learning_rate: ClassVar[float] = 0.05
    fades: bool = False

    def __init__(self, columns: Sequence[tuple[str, str]], *, dim: Dim) -> None:
        super().__init__()
        if isinstance(columns, str) or not all(
            isinstance(pair, tuple | list) and len(pair) == 2 for pair in columns
        ):
            raise ArgumentError(f"columns must be pairs of name and kind; got {shown(columns)}.")
        names = [name for name, _ in columns]
        if not names or len({*names}) < len(names):
            raise ConfigError(f"columns must name one column or more, each once; got {shown(names)}.")
        for name, kind in columns:
            if kind not in self.kinds:
                raise ConfigError(
                    f"{type(self).__name__} reads columns of kind {sorted(self.kinds)}; got column {name!r} "
                    f"of kind {kind!r}. Choose another encoder, or 'mixed' for columns of several kinds."
                )
        self.columns = tuple((name, kind) for name, kind in columns)
        self.dim = 0 if dim == "features" else dim

    @property
    def operations(self) -> int:
        """Multiplications of a row in `forward`, where each weight takes part in one unless a member says."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        """The features of each row, as a pure function of the raw values.

        Args:
            columns: arrays of equal length in the canonical Arrow type of their kind.

        Raises:
            DataError: a column is missing or holds what the encoder cannot use.
        """

    @checked
    def fit(self, chunks: Iterable[Features], *, generator: torch.Generator) -> None:
        """Learns from the featurized training rows in one pass, and creates parameters and buffers.

        Args:
            chunks: results of `featurize`.
            generator: source of the initial weights: the same seed gives the same bits.
        """
        self.begin()
        for features in chunks:
            self.observe(features)
        self.finish(generator=generator)
        self.prepare()

    @abstractmethod
    def begin(self) -> None:
        """Clears the statistics that `observe` gathers."""

    @abstractmethod
    def observe(self, features: Features) -> None:
        """Gathers statistics of some featurized training rows."""

    def narrow(self, dim: int) -> None:
        """Takes the width D that so many classes need, before `finish`, where it is one linear map.

        0 stands for the features themselves.
        """

    @abstractmethod
    def finish(self, *, generator: torch.Generator) -> None:
        """Turns the statistics into buffers, and draws the parameters."""

    @abstractmethod
    def index(self, features: Features) -> Features:
        """Features with ids replaced by table rows and numbers scaled; needs `fit` or `restore`."""

    def weigh(self, chunks: Chunks) -> None:
        """Weighs features by how often these indexed rows alone have them, where it weighs them at all."""

    @abstractmethod
    def forward(self, features: Tensors) -> Tensor:
        """Indexed features as tensors (see `to_tensors`) to hidden [B, D]."""

    def numbers(self, features: Tensors) -> Tensor | None:
        """The scaled numbers of each row [B, N], by which rows are near; None where it reads no numbers."""
        return None

    @property
    def table(self) -> Tensor | None:
        """[F, D] the linear map that hidden vectors are of sparse features; None where they are none."""
        return None

    def step_factors(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Each parameter, and what its learning rate is multiplied by."""
        return ((parameter, 1.0) for parameter in self.parameters())

    @checked
    def encode(self, columns: Mapping[str, pa.Array]) -> Features:
        """Raw columns to indexed features."""
        return self.index(self.featurize(columns))

    def laws(self) -> Iterator[tuple[bool, str]]:
        """What must hold among the tensors of a learned state, and whether it does; the first ones first."""
        yield from ()

    @abstractmethod
    def prepare(self) -> None:
        """Builds the look-ups of `index` from the buffers; `fit` and `restore` end with it."""

    @checked
    def restore(self, state: Mapping[str, Tensor], *, copy: bool = True) -> None:
        """Takes over a whole learned state; afterwards the encoder is as good as fitted.

        Args:
            state: what ``state_dict()`` of an encoder with the same columns and options returned.
            copy: whether the tensors stay the caller's; otherwise they become the encoder's own.

        Raises:
            CorruptError: a tensor is missing, unknown, or of a shape, type or values the encoder cannot have.
        """
        # A dimension of size zero in a fresh encoder is learned; the others follow from its options.
        own = self.state_dict(keep_vars=True)
        if own.keys() != state.keys():
            raise CorruptError(
                f"the encoder's state must hold {sorted(own)}; got {sorted(state)}. "
                "Use the config and the version of widemax that the state was saved with."
            )
        for name, tensor in state.items():
            shape, dtype = tuple(own[name].shape), own[name].dtype
            sizes_fit = len(shape) == tensor.dim() and all(
                size in (0, given) for size, given in zip(shape, tensor.shape, strict=True)
            )
            if not sizes_fit or tensor.dtype != dtype:
                raise CorruptError(
                    f"{name!r} in the encoder's state must be {dtype} of shape {shape}, 0 for any size; "
                    f"got {tensor.dtype} of shape {tuple(tensor.shape)}. "
                    "Use the config that the state was saved with."
                )
            kept = tensor.detach().clone() if copy else tensor.detach()
            if shape == tuple(tensor.shape) and not own[name].is_meta:
                own[name].data = kept.to(own[name].device)  # where the optimizer looks for it
                continue
            module, _, leaf = name.rpartition(".")
            is_parameter = isinstance(own[name], nn.Parameter)
            setattr(self.get_submodule(module), leaf, nn.Parameter(kept) if is_parameter else kept)
        for holds, law in self.laws():
            if not holds:
                raise CorruptError(
                    f"the encoder's state must have {law}. Use the config that the state was saved with."
                )
        self.prepare()

    def column(self, columns: Mapping[str, pa.Array], name: str) -> pa.Array:
        """One column by name.

        Raises:
            DataError: it is not there.
        """
        if name not in columns:
            raise DataError(f"column {name!r} is missing; the columns are {sorted(columns)}.")
        return columns[name]


encoders: Registry[type[Encoder]] = Registry("encoder", "widemax.encoders")
