"""How probable a label must be for the labels of a row to hold a share of the right ones that is promised."""

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from widemax.artifact import Model
from widemax.data import Data, Dataset, Reading, resolve
from widemax.errors import DataError, UsageError, counted
from widemax.evaluation import SeveralLabelRows, Threshold
from widemax.heads import SeveralLabels
from widemax.options import AtLeast1, checked
from widemax.training.evaluate import dataset_rows, evaluation_rows


class Covering(NamedTuple):
    """A threshold whose labels cover what was asked for.

    Attributes:
        threshold: the least probability of labels that are given.
        rows: how many rows decided.
        overlap_rows: how many more were left out, since their inputs stand in training too.
        mean_size: how many labels a row is given in the mean; None where held-out rows of training decided.
    """

    threshold: float
    rows: int
    overlap_rows: int
    mean_size: float | None

    def __str__(self) -> str:
        size = "" if self.mean_size is None else f"{self.mean_size:.1f} labels a row, "
        rows = counted(self.rows, "held-out row" if self.mean_size is None else "row")
        left_out = f"; {counted(self.overlap_rows, 'row')} of training left out" if self.overlap_rows else ""
        return f"threshold {self.threshold:.3g}, {size}by {rows}{left_out}"


@partial(checked, of="covering")
def covering(
    model: Model,
    data: Data | Iterable[Data] | None = None,
    *,
    coverage: Annotated[float, Field(gt=0, lt=1)],
    k: AtLeast1 = 100,
    drop_bad: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> Covering:
    """The threshold whose labels hold, in the mean of new rows, such a share of the right ones.

    Held-out rows of training need not be given, since the run keeps how probable their labels were. They
    chose the epoch and the temperature, and where a second fit learned them too, their probabilities are
    those of the model before it, which had fewer rows: other rows promise strictly, these nearly so.

    Args:
        model: as trained or loaded.
        data: rows with their labels, like those to come, and not those of training; when None, those that
            training held out.
        coverage: the share; where each row has one label, how often it is among those given.
        k: so many labels are given at most.
        drop_bad: leave bad rows out instead of raising at the first.
        delimiter, encoding: of the files, where they differ from those in training.

    Raises:
        DataError: no usable row, or a bad one without ``drop_bad``.
        UsageError: the model recommends; the k best labels do not hold so many, or the rows are too few; no
            rows are given, and training held none out.

    Example:
        >>> model = Model.load("run")  # doctest: +SKIP
        >>> found = covering(model, "later.csv", coverage=0.9, k=50)  # doctest: +SKIP
        >>> model.predict(["a title"], k=50, threshold=found.threshold)  # doctest: +SKIP

    Source: Angelopoulos et al., Conformal Risk Control (ICLR 2024), with the share of right labels that are
    missed as the risk.
    """
    if model.excludes_seen:
        raise UsageError(
            "a coverage is of rows with right labels, and the run ranks next items; leave it out."
        )
    if data is None:
        if model.conformity is None:
            raise UsageError(
                "the run keeps nothing of held-out rows; give rows with their labels that training has not "
                "seen (--calibration ROWS)."
            )
        return Covering(model.conformity.covering(coverage, k=k), model.conformity.num_rows, 0, None)
    reading = Reading.of(model.config.data, delimiter=delimiter, encoding=encoding)
    dataset = Dataset(resolve(data), model.schema, format=reading, drop_bad=drop_bad)
    threshold, num_rows, num_known = Threshold(), 0, 0
    keys: list[Any] | None = None if model.row_keys is None else []
    for rows in dataset_rows(model, dataset, keys):
        labels = SeveralLabels.of(rows.labels)
        answered = evaluation_rows(model.answer(rows.features, labels, k=k), labels)
        assert isinstance(answered, SeveralLabelRows)
        if keys is not None:
            known_B = pc.is_in(pa.chunked_array([keys.pop()]), value_set=model.row_keys).to_numpy()
            answered = answered.take(~known_B)
            num_known += int(known_B.sum())
        threshold.update(answered)
        num_rows += len(answered)
    if not num_rows:
        if num_known:
            raise DataError(
                "all rows stand in training too, where answers are surer than of others; give others."
            )
        raise dataset.without_rows()
    least = threshold.conformity.covering(coverage)
    return Covering(least, num_rows, num_known, threshold.mean_size(least))
