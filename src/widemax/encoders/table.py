"""Numbers, dates and categories through a multilayer perceptron."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn

from widemax.encoders.base import Encoder, encoders
from widemax.encoders.features import Features, RaggedTensor, Tensors, entry
from widemax.encoders.hashing import salt, stable_keys
from widemax.encoders.keys import KeyIndex, KeySet, rise
from widemax.encoders.mlp import MLP
from widemax.encoders.piecewise import piecewise_linear, quantile_bins
from widemax.encoders.spread import LIMIT, RowSample, middle_and_spread, squashed
from widemax.errors import DataError
from widemax.options import AtLeast1

DATE_PARTS = 7


def _numbers(values: pa.Array, *, column: str) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = (
        values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    )
    if np.isinf(numbers).any():
        row = int(np.flatnonzero(np.isinf(numbers))[0])
        raise DataError(
            f"numbers must be finite; column {column!r} has {numbers[row]} at row {row}. Use null instead."
        )
    return numbers


def _date_parts(seconds: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Days since 1970, and where a moment stands in the year, the week and the day."""
    days = seconds / 86_400
    turns = [2 * np.pi * (days % period) / period for period in (365.2425, 7, 1)]
    return [days, *(wave(turn) for turn in turns for wave in (np.sin, np.cos))]


_MOST_BINS = 512
# So many bins a column take no more rows; beyond, a bin is worth this many.
_FEW_BINS, _ROWS_A_BIN = 64, 32


@encoders.register("table")
class TableEncoder(Encoder):
    """Numbers, dates and categories through a multilayer perceptron.

    first layer = W [z; bins; missing] + b + Σ_c embedding[category_c]. A number is z = y / √(1 + (y / 10)²)
    with y = (x − median) / spread, where the spread is that of the middle half of the training rows: one
    number that is far off leaves the others where they are, and any number can be predicted from, as z lies
    in (−10, 10). Beside it stands how far it is through each quantile bin of its column, from −1 to 1.
    A date counts as seven numbers without bins: the days since 1970, and sine and cosine of its place in
    the year, the week and the day. A missing number has z = 0 and, where the column lacked numbers in
    training, an indicator of its own. A category (null is one) not seen in training adds nothing.

    Args:
        columns: (name, kind) of number, date and category columns.
        dim: width D of the hidden vector.
        bins: the most bins of a number; fewer where there are more than 512 in all, and more than 64 only
            where each has 32 training rows. 0 for none.
        hidden: widths of the hidden layers; none makes the encoder linear.
        dropout: probability of dropping a hidden unit in training.

    Source: Holzmüller, Grinsztajn and Steinwart, "Better by default: Strong pre-tuned MLPs and boosted trees
    on tabular data", NeurIPS 2024, "robust scaling and smooth clipping"; `piecewise_linear`.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"number", "date", "category"})
    waits = frozenset({"unique"})
    table_name = "weight_FH"
    optimizer = "lazy_adam"
    learning_rate = 2e-3

    middle_N: Tensor
    spread_N: Tensor
    had_missing_N: Tensor
    column_E: Tensor
    start_E: Tensor
    width_E: Tensor
    keys_F: Tensor

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: AtLeast1 = 256,
        bins: Annotated[int, Field(ge=0)] = 256,
        hidden: tuple[AtLeast1, ...] = (512, 512),
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(columns, dim=dim)
        self.bins = bins
        self.hidden = hidden
        self.dropout = dropout
        self.number_names, self.date_names, self.category_names = (
            tuple(name for name, own in self.columns if own == kind)
            for kind in ("number", "date", "category")
        )
        self.mlp = MLP((*hidden, dim), dropout=dropout)
        self.weight_FH = nn.Parameter(torch.empty(0, self.mlp.widths[0]))
        num_numbers = self.num_numbers
        self.register_buffer("keys_F", torch.empty(0, dtype=torch.int64))
        self.register_buffer("middle_N", torch.zeros(num_numbers, dtype=torch.float64))
        self.register_buffer("spread_N", torch.ones(num_numbers, dtype=torch.float64))
        self.register_buffer("had_missing_N", torch.zeros(num_numbers, dtype=torch.bool))
        self.register_buffer("column_E", torch.empty(0, dtype=torch.int64))
        self.register_buffer("start_E", torch.empty(0, dtype=torch.float64))
        self.register_buffer("width_E", torch.empty(0, dtype=torch.float64))

    @property
    def num_numbers(self) -> int:
        """How many numbers a row has, those of dates among them."""
        return len(self.number_names) + DATE_PARTS * len(self.date_names)

    @property
    def operations(self) -> int:
        """Multiplications of a row in `forward`."""
        return sum(weight.numel() for weight in self.mlp.parameters())

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        numbers = [_numbers(self.column(columns, name), column=name) for name in self.number_names]
        for name in self.date_names:
            numbers += _date_parts(_numbers(self.column(columns, name), column=name))
        keys = [
            stable_keys(self.column(columns, name), salt=salt(name, "category"))
            for name in self.category_names
        ]
        rows = len((numbers + keys)[0])
        return {
            "numbers": np.array(numbers, dtype=np.float64).reshape(len(numbers), rows).T,
            "categories": np.array(keys, dtype=np.int64).reshape(len(keys), rows).T,
        }

    def begin(self) -> None:
        self._sample, self._seen = RowSample(), KeySet()
        self._had_missing_N = np.zeros(self.num_numbers, np.bool_)

    def observe(self, features: Features) -> None:
        numbers_BN = entry(features, "numbers", np.ndarray)
        self._sample.update(numbers_BN)
        self._had_missing_N |= np.isnan(numbers_BN).any(axis=0)
        self._seen.update(entry(features, "categories", np.ndarray))

    def finish(self, *, generator: torch.Generator) -> None:
        rows_RN = self._sample.rows()
        found_N2 = np.array([middle_and_spread(values_R) for values_R in rows_RN.T]).reshape(-1, 2)
        self.middle_N, self.spread_N = torch.from_numpy(found_N2).unbind(1)
        # The parts of dates come last: they have waves in place of bins.
        num_binned = len(self.number_names)
        enough = max(_FEW_BINS, len(rows_RN) // _ROWS_A_BIN)
        num_bins = min(self.bins, enough, _MOST_BINS // max(num_binned, 1))
        bins = quantile_bins(squashed(rows_RN, *found_N2.T)[:, :num_binned], num_bins=num_bins)
        self.column_E, self.start_E, self.width_E = map(torch.from_numpy, bins)
        self.had_missing_N = torch.from_numpy(self._had_missing_N)
        self.keys_F = torch.from_numpy(self._seen.sorted())
        self.mlp.initialize(2 * self.num_numbers + len(self.start_E), generator=generator)
        num_hidden = self.mlp.widths[0]
        weight_FH = torch.zeros(len(self.keys_F) + 1, num_hidden)
        weight_FH[1:].normal_(generator=generator).div_(sqrt(len(self.columns)))
        self.weight_FH = nn.Parameter(self.rows.own(weight_FH))

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield rise(self.keys_F), "keys that rise"
        is_whole = len(self.weight_FH) == len(self.rows.place(len(self.keys_F) + 1, self.weight_FH.shape[1]))
        yield is_whole, "a row for each key, and one for the others"
        yield bool((self.spread_N > 0).all()), "spreads above 0"
        yield (
            len(self.column_E) == len(self.start_E) == len(self.width_E),
            "a column and a width for each bin",
        )
        column_E, num_binned = self.column_E, len(self.number_names)
        yield bool(((column_E >= 0) & (column_E < num_binned)).all()), f"bins of {num_binned} columns"
        yield bool((self.width_E > 0).all()), "widths of bins above 0"
        ends_E = self.start_E, self.start_E + self.width_E
        yield all(bool((end_E.abs() <= LIMIT + 1e-6).all()) for end_E in ends_E), "bins in [-10, 10]"
        yield from self.mlp.laws(2 * self.num_numbers + len(self.start_E))

    def prepare(self) -> None:
        self._known = KeyIndex(self.keys_F.cpu().numpy())
        self._middle_N = self.middle_N.cpu().numpy()
        self._spread_N = self.spread_N.cpu().numpy()
        self._had_missing_N = self.had_missing_N.cpu().numpy()
        self._bins = self.column_E.cpu().numpy(), self.start_E.cpu().numpy(), self.width_E.cpu().numpy()

    def index(self, features: Features) -> Features:
        numbers_BN = entry(features, "numbers", np.ndarray)
        missing_BN = np.isnan(numbers_BN)
        scaled_BN = squashed(numbers_BN, self._middle_N, self._spread_N)
        inputs = (
            np.where(missing_BN, 0, scaled_BN),
            piecewise_linear(scaled_BN, *self._bins),
            missing_BN & self._had_missing_N,
        )
        return {
            "numbers": np.concatenate(inputs, axis=1, dtype=np.float32),
            # Row 0 is for categories not seen in training: it is zero and stays so.
            "categories": self._known.find(entry(features, "categories", np.ndarray)) + 1,
        }

    def numbers(self, features: Tensors) -> Tensor | None:
        return entry(features, "numbers", Tensor)[:, : self.num_numbers] if self.num_numbers else None

    def _embed(self, rows_BA: Tensor) -> Tensor:
        num_rows, num_columns = rows_BA.shape
        offsets_B1 = torch.arange(num_rows + 1, device=rows_BA.device) * num_columns
        ones_P = self.weight_FH.new_ones(rows_BA.numel())
        return self.rows.bag_sum(self.weight_FH, RaggedTensor(offsets_B1, rows_BA.flatten(), ones_P))

    def forward(self, features: Tensors) -> Tensor:
        # Numbers alone stay clear of the sparse gradient, which not every optimizer takes.
        embedded_BH = self._embed(entry(features, "categories", Tensor)) if self.category_names else None
        hidden_BD: Tensor = self.mlp(entry(features, "numbers", Tensor), embedded_BH)
        return hidden_BD
