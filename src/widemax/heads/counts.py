"""The closed form that counts which classes stand beside which features.

Shapes: B rows, b rows of one chunk, F features, C classes, P (feature, class) pairs or labels, S scores of a
chunk, T of a row, K kept.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from widemax.classes import Classes
from widemax.errors import ArgumentError, DataError, ShapeError
from widemax.heads.answers import Answers, TopK
from widemax.heads.base import AtLeast1, CountingHead, Dim, heads
from widemax.heads.dense import excluded_pairs
from widemax.heads.labels import Labels, SeveralLabels, label_pairs, no_pairs, target_shares, training_pairs
from widemax.kernels import Pairs, budget
from widemax.numerics.ids import checked_ids
from widemax.options import checked

Sparse: TypeAlias = Any
"""A SciPy array in CSR form, entries of a row by ascending column."""
Auto = Literal["auto"]
Power = Annotated[float, Field(ge=0, le=1)]
LARGEST_VALUE_POWER = 8.0
ValuePower = Annotated[float, Field(ge=0, le=LARGEST_VALUE_POWER)]

USUAL_POWERS = 1.0, 0.5, 0.2
USUAL_SMOOTHING = 0.1
SMOOTHING, TEMPERATURE = (1e-4, 10.0), (0.1, 10.0)
# What held-out rows choose from, how many are asked, and how many places count.
VALUE_POWERS = 0.0, 0.5, 1.0, 2.0
FEATURE_POWERS = 0.1, 0.3, 0.5, 0.7, 0.9
CLASS_POWERS = 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6
CHOICE_ROWS = 1500
PLACES = 20
DISCOUNTS = 1 / np.log2(np.arange(2, PLACES + 2))
# Trials of smoothing and temperature; more take longer and change little.
CALIBRATION_TRIALS = 60
# Fewer pairs of features and labels are not worth a product of matrices.
FEWEST_PAIRS = 2**22
CSR_PARTS = "offsets", "ids", "values"


@final
@heads.register("counts")
class CountsHead(CountingHead):
    """P(c | x) ∝ (s_c / Σ_j s_j + smoothing · π_c)^(1 / temperature) with s = x W, where W is counted.

    W = D_f^-a (Xᵀ D_row Y) D_c^-b: X [rows, F] holds the features of the training rows to the power p, D_row
    divides each by its Euclidean length, Y [rows, C] holds the labels, and D_f and D_c are the sums of what
    stands between them over the classes and over the features. Of each feature the best classes are kept. π
    are the frequencies of the classes, each with one more row. Where features are the items of a history that
    fade with their distance, counts are directed and decayed, and p changes the decay.

    No gradient trains it: :meth:`partial_fit` counts rows, :meth:`merge` adds what another head has counted,
    and :meth:`finish` makes the weights, for which held-out rows choose a, b, smoothing and temperature.
    Hidden vectors are the features themselves, dense, or sparse as an encoder whose ``dim`` is "features"
    gives them. In answers, which are exact over all classes, what is below 0 counts as 0.

    Use: for histories of items and for texts with many labels. One pass over the data takes seconds, and what
    is rare is remembered; nothing is said about features that met no class.

    Args:
        num_classes: C, or ``Classes`` with their counts.
        dim: F, the number of features.
        value_power: p; 0 only asks which features there are. "auto" is 1 unless ``tune`` chooses.
        feature_power: a; "auto" is what held-out rows choose.
        class_power: b, likewise; 0 favors frequent classes.
        keep: the most classes that are kept of a feature.

    Source: Deshpande and Karypis 2004, "Item-based top-N recommendation algorithms", section 4.2, where a
    class's popularity has a power too.

    Example:
        >>> head = CountsHead(3, 2)
        >>> head.partial_fit(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([2, 1]))
        >>> head.finish()
        >>> head.topk(torch.eye(2), 1).class_ids.flatten()
        tensor([2, 1])
    """

    learned_sizes = frozenset({"class_ids", "weight"})

    offsets: Tensor
    class_ids: Tensor
    weight: Tensor
    prior: Tensor
    smoothing: Tensor
    powers: Tensor

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        value_power: ValuePower | Auto = "auto",
        feature_power: Power | Auto = "auto",
        class_power: Power | Auto = "auto",
        keep: AtLeast1 = 400,
    ) -> None:
        classes = Classes.of(num_classes)
        super().__init__(classes, dim)
        self.normalizer = "softmax"
        self.given_powers = value_power, feature_power, class_power
        self.keep = keep
        self.register_buffer("offsets", torch.zeros(dim + 1, dtype=torch.int64))
        self.register_buffer("class_ids", torch.empty(0, dtype=torch.int32))
        self.register_buffer("weight", torch.empty(0))
        counts = torch.zeros(classes.num) if classes.counts is None else classes.counts
        self.register_buffer("prior", _prior(counts.double()))
        self.register_buffer("smoothing", torch.tensor(USUAL_SMOOTHING))
        powers = [u if g == "auto" else g for g, u in zip(self.given_powers, USUAL_POWERS, strict=True)]
        self.register_buffer("powers", torch.tensor(powers))
        self._counts: Sparse = scipy_sparse().csr_array((dim, classes.num))
        self._class_counts = torch.zeros(classes.num, dtype=torch.float64)
        self._pending: list[tuple[Sparse, Sparse]] = []
        self._num_pending = 0

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield from super().laws()
        offsets_F1, ids_P = self.offsets, self.class_ids
        rises = bool((offsets_F1.diff() >= 0).all()) and int(offsets_F1[0]) == 0
        yield (
            rises and int(offsets_F1[-1]) == len(ids_P),
            "offsets that rise from 0 to the number of class ids",
        )
        in_range = bool(((ids_P >= 0) & (ids_P < self.num_classes)).all())
        begins_P1 = torch.zeros(len(ids_P) + 1, dtype=torch.bool)
        begins_P1[offsets_F1] = True
        by_id = bool(((ids_P.diff() > 0) | begins_P1[1:-1]).all())
        yield in_range and by_id, f"class ids within [0, {self.num_classes}) that rise for each feature"
        yield len(self.weight) == len(ids_P) and bool((self.weight > 0).all()), "a weight above 0 a class id"
        is_share = bool((self.prior > 0).all()) and abs(float(self.prior.double().sum()) - 1) < 1e-3
        yield is_share, "a prior above 0 that sums to 1"
        yield bool(0 < self.smoothing <= SMOOTHING[1]), f"a smoothing in (0, {SMOOTHING[1]}]"
        limits = torch.tensor([LARGEST_VALUE_POWER, 1.0, 1.0])
        yield bool(((self.powers >= 0) & (self.powers <= limits)).all()), f"powers within {limits.tolist()}"

    @property
    def num_parameters(self) -> int:
        return len(self.weight)

    # Learning.

    @partial(checked, of="head.partial_fit")
    def partial_fit(self, hidden: Tensor, labels: Labels) -> None:
        """Counts some rows more.

        Args:
            hidden: [B, F] features, dense or sparse.
            labels: [B] class ids, or several a row.

        Raises:
            DataError: a feature that is below 0 or not finite.
            LabelError: a class id outside [0, C).
            ShapeError: features of another number; not one label, or list of labels, a row.
        """
        if hidden.ndim != 2 or hidden.shape[1] != self.dim:
            raise ShapeError(f"hidden must be [B, {self.dim}], the features; got {tuple(hidden.shape)}.")
        pairs = training_pairs(labels, hidden, self.num_classes)
        features = _csr(hidden)
        wrong = np.flatnonzero(~((features.data >= 0) & np.isfinite(features.data)))
        if len(wrong):
            row = int(np.searchsorted(features.indptr, wrong[0], side="right")) - 1
            raise DataError(
                f"features must be finite and at least 0 to be counted; row {row} has "
                f"{features.data[wrong[0]]}. Scale them, or choose another head."
            )
        self._pending.append((self._powered(features), _csr_of(pairs, (len(hidden), self.num_classes))))
        self._class_counts += pairs.ids_P.bincount(minlength=self.num_classes)
        self._num_pending += _num_pairs(*self._pending[-1])
        # Adding up takes a pass over all counts, so it waits for as many new pairs.
        if self._num_pending > max(FEWEST_PAIRS, self._counts.nnz):
            self._settle(self.counts())

    def _settle(self, counts: Sparse) -> None:
        self._counts, self._pending, self._num_pending = counts, [], 0

    def counts(self) -> Sparse:
        """Xᵀ D_row Y of all rows so far, a SciPy array [F, C] in float64."""
        if not self._pending:
            return self._counts
        features, labels = (
            scipy_sparse().vstack(parts, format="csr") for parts in zip(*self._pending, strict=True)
        )
        # Transposing sorts the columns of each row, in linear time.
        return (labels.T.tocsr() @ features).T.tocsr() + self._counts

    @partial(checked, of="head.merge")
    def merge(self, other: "CountsHead") -> None:
        """Adds what another head has counted, as if its rows had been counted here.

        Raises:
            ArgumentError: it counts with another value power.
            ShapeError: it has other features or classes.
        """
        if (other.dim, other.num_classes) != (self.dim, self.num_classes):
            raise ShapeError(
                f"other must have {self.dim} features and {self.num_classes} classes; got {other.dim} and "
                f"{other.num_classes}."
            )
        if other.powers[0] != self.powers[0]:
            raise ArgumentError(
                f"other must count with value_power {float(self.powers[0])}; got {float(other.powers[0])}."
            )
        self._settle(self.counts() + other.counts())
        self._class_counts += other._class_counts

    @partial(checked, of="head.tune")
    def tune(
        self,
        hidden: Tensor,
        labels: Labels,
        held_out: Tensor,
        held_out_labels: Labels,
        *,
        exclude: SeveralLabels | None = None,
    ) -> None:
        """Chooses p, unless it is given, before rows are counted: what serves held-out rows best.

        Args:
            hidden, labels: some training rows, as in :meth:`partial_fit`.
            held_out, held_out_labels: other rows; label −1 stands for a class never seen in training.
            exclude: classes of each held-out row that may not be ranked.
        """
        if self.given_powers[0] != "auto":
            return
        gains = {}
        for power in VALUE_POWERS:
            trial = CountsHead(self.num_classes, self.dim, value_power=power, keep=self.keep)
            trial.partial_fit(hidden, labels)
            held = trial._held_out(held_out, held_out_labels, exclude)
            gains[power] = _Choice(trial.counts(), trial.keep, *held).gain(*USUAL_POWERS[1:])
        self.powers[0] = max(gains, key=lambda power: gains[power])

    @partial(checked, of="head.finish")
    def finish(
        self,
        held_out: Tensor | None = None,
        labels: Labels | None = None,
        *,
        exclude: SeveralLabels | None = None,
    ) -> None:
        """Makes the weights of all rows counted so far; more may follow, and another ``finish``.

        Args:
            held_out: [B, F] features of rows that were not counted, by which the powers that are not given,
                smoothing and temperature are chosen; without, they stay as they are.
            labels: their labels; −1 stands for a class never seen in training.
            exclude: classes of each of these rows that may not be ranked.
        """
        counts = self.counts()
        held = None
        if held_out is not None and labels is not None:
            held = self._held_out(held_out, labels, exclude)
            choice = _Choice(counts, self.keep, *held)
            for axis, power in enumerate(choice.best(self.given_powers[1:]), 1):
                self.powers[axis] = power
        _, feature_power, class_power = self.powers.tolist()
        weights = _best_of_rows(_scaled(counts, counts.sum(axis=0), class_power), self.keep)
        factors_F = np.where((sums_F := counts.sum(axis=1)) > 0, sums_F, 1.0) ** -feature_power
        weights.data *= np.repeat(factors_F, np.diff(weights.indptr))
        weights = weights.astype(np.float32)
        weights.eliminate_zeros()  # what is less than float32 can hold
        self.offsets = torch.from_numpy(weights.indptr.astype(np.int64))
        self.class_ids = torch.from_numpy(weights.indices.astype(np.int32))
        self.weight = torch.from_numpy(weights.data)
        self.prior = _prior(self._class_counts)
        if held is not None and held[1].nnz:
            self._calibrate(held[0], held[1])

    def training_state(self) -> dict[str, Tensor]:
        state = super().training_state() | {"class_counts": self._class_counts}
        features, labels = zip(*self._pending, strict=True) if self._pending else ([], [])
        pending = {"features": features, "labels": labels} if self._pending else {}
        matrices = {
            "counts": self._counts,
            **{name: scipy_sparse().vstack(m, "csr") for name, m in pending.items()},
        }
        for name, matrix in matrices.items():
            parts = zip(CSR_PARTS, (matrix.indptr, matrix.indices, matrix.data), strict=True)
            state |= {f"{name}.{part}": torch.from_numpy(array) for part, array in parts}
        return state

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        super().load_training_state(state)
        self._class_counts = state["class_counts"].clone()
        found = {}
        for name, size in (
            ("counts", self.num_classes),
            ("features", self.dim),
            ("labels", self.num_classes),
        ):
            if f"{name}.{CSR_PARTS[0]}" in state:
                offsets, ids, values = (state[f"{name}.{part}"].numpy() for part in CSR_PARTS)
                found[name] = scipy_sparse().csr_array((values, ids, offsets), shape=(len(offsets) - 1, size))
        self._settle(found["counts"])
        if "features" in found:
            self._pending = [(found["features"], found["labels"])]
            self._num_pending = _num_pairs(*self._pending[0])

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        for name in self.learned_sizes:
            if f"{prefix}{name}" in state:
                setattr(
                    self, name, torch.empty_like(state[f"{prefix}{name}"], dtype=getattr(self, name).dtype)
                )
        super()._load_from_state_dict(state, prefix, *args)

    def _powered(self, features: Sparse) -> Sparse:
        """D_row X^p: what is below 0 is dropped, and each row has length 1."""
        powered = features.astype(np.float64)
        np.maximum(powered.data, 0, out=powered.data)
        powered.eliminate_zeros()
        lengths_B = np.diff(powered.indptr)
        with np.errstate(invalid="ignore"):  # what is infinite has no answer
            # By the largest first, so that no power leaves the range of numbers.
            powered.data /= np.repeat(powered.max(axis=1).toarray(), lengths_B)
            powered.data **= float(self.powers[0])
            powered.data /= np.repeat(np.sqrt(powered.power(2).sum(axis=1)), lengths_B)
        return powered

    def _held_out(
        self, hidden: Tensor, labels: Labels, exclude: SeveralLabels | None
    ) -> tuple[Sparse, Sparse, Sparse]:
        """Features, known labels and excluded classes of as many rows as decide."""
        pairs = label_pairs(labels, hidden)
        excluded = excluded_pairs(exclude, hidden, pairs, self.num_classes)
        known_P = pairs.ids_P >= 0
        shape = len(hidden), self.num_classes
        matrices = (
            self._powered(_csr(hidden)),
            _csr_of(Pairs(pairs.rows_P[known_P], pairs.ids_P[known_P]), shape),
            _csr_of(excluded, shape),
        )
        features, known, no_answer = (matrix[:CHOICE_ROWS] for matrix in matrices)
        return features, known, no_answer

    def _calibrate(self, features: Sparse, labels: Sparse) -> None:
        """Fits smoothing and temperature to the labels of held-out rows, by the mean of nll over rows."""
        from scipy.optimize import minimize

        # Some rows at a time are as many as should decide.
        shares, rows_S = next(self._shares(features))
        num_rows = shares.shape[0]
        labels = labels[:num_rows]
        rows_P = np.repeat(np.arange(num_rows), np.diff(labels.indptr))
        label_shares_P = shares[rows_P, labels.indices]
        part_P = 1 / np.diff(labels.indptr)[rows_P]
        prior_C = self.prior.double().numpy()

        def nll(logs: Any) -> float:
            smoothing, temperature = np.exp(logs)
            base_C = smoothing * prior_C
            less_S, more_S = base_C[shares.indices], base_C[shares.indices] + shares.data
            power = 1 / temperature
            total_B = (base_C**power).sum() + np.bincount(rows_S, more_S**power - less_S**power, num_rows)
            logits_P = power * np.log(label_shares_P + base_C[labels.indices])
            return float(part_P @ (np.log(total_B)[rows_P] - logits_P))

        found = minimize(
            nll,
            np.log([USUAL_SMOOTHING, 1.0]),
            method="Nelder-Mead",
            bounds=np.log([SMOOTHING, TEMPERATURE]),
            options={"maxfev": CALIBRATION_TRIALS},
        )
        smoothing, temperature = np.exp(found.x)
        self.smoothing.fill_(smoothing)
        self.calibration_temperature.fill_(temperature)

    # Answers.

    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        """[B] cross-entropy with a target that is uniform over a row's labels; it has no gradient."""
        pairs = training_pairs(labels, hidden, self.num_classes)
        log_probs_P = self._answers(hidden, pairs, no_pairs(hidden.device), 1, 1.0).label_log_probs
        losses_P = -target_shares(pairs, len(hidden)).to(log_probs_P) * log_probs_P
        return losses_P.new_zeros(len(hidden)).index_add(0, pairs.rows_P, losses_P)

    @torch.no_grad()
    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        """As of every head, but without a gradient."""
        if class_ids is None:
            class_ids = torch.arange(self.num_classes)
        class_ids = checked_ids(class_ids, self.num_classes, "class_ids", hidden)
        ids_BN = class_ids.expand(len(hidden), class_ids.shape[-1]).numpy()
        others_C = self._others(self.calibration_temperature)
        logits_C, logits_BN = others_C.copy(), np.empty(ids_BN.shape, others_C.dtype)
        for row, found in enumerate(self._rows(hidden, self.calibration_temperature)):
            logits_C[found.ids_T] = found.logits_T
            logits_BN[row] = logits_C[ids_BN[row]]
            logits_C[found.ids_T] = others_C[found.ids_T]
        return torch.from_numpy(logits_BN)

    def log_partition(self, hidden: Tensor) -> Tensor:
        rows = self._rows(hidden, self.calibration_temperature)
        return self.weight.new_tensor([found.log_partition for found in rows])

    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        return self.logits(hidden, class_ids) - self.log_partition(hidden)[:, None]

    def best_classes(self, hidden: Tensor, k: int, exclude: SeveralLabels | None) -> TopK:
        return self.answers_about(hidden, no_pairs(hidden.device), k, exclude).topk

    def answers_about(self, hidden: Tensor, labels: Pairs, k: int, exclude: SeveralLabels | None) -> Answers:
        excluded = excluded_pairs(exclude, hidden, labels, self.num_classes)
        return self._answers(hidden, labels, excluded, k, self.calibration_temperature)

    def _answers(
        self, hidden: Tensor, labels: Pairs, excluded: Pairs, k: int, temperature: Tensor | float
    ) -> Answers:
        """Most classes of a row have the logits that they have in every row, so that few are looked at."""
        rows = ranked_rows(self._others(temperature), self._rows(hidden, temperature), labels, excluded, k)
        parts: list[list[Any]] = [[] for _ in range(6)]
        for part, values in zip(parts, zip(*rows, strict=True), strict=False):
            part.extend(values)
        ids, logits, label_logits, ranks, partitions, squares = parts
        dtype = self.weight.numpy().dtype

        def joined(arrays: list[NDArray[Any]], kind: Any) -> Tensor:
            return torch.from_numpy(np.concatenate([np.empty(0, kind), *arrays]).astype(kind, copy=False))

        partition_B = self.weight.new_tensor(partitions)
        logits_BK = joined(logits, dtype).view(len(hidden), k)
        label_logits_P = joined(label_logits, dtype)
        return Answers(
            TopK(joined(ids, np.int64).view(len(hidden), k), logits_BK, logits_BK - partition_B[:, None]),
            partition_B,
            self.weight.new_tensor(squares),
            label_logits_P,
            label_logits_P - partition_B[labels.rows_P],
            joined(ranks, np.int64),
        )

    def _others(self, temperature: Tensor | float) -> NDArray[Any]:
        """[C] the logits of classes that stand beside no feature of a row."""
        base_C = float(self.smoothing) * self.prior.double().numpy()
        return (np.log(base_C) / float(temperature)).astype(self.weight.numpy().dtype)

    def _shares(self, features: Sparse) -> Iterator[tuple[Sparse, NDArray[np.int64]]]:
        """s_c / Σ_j s_j of the classes that stand beside some feature, and their rows, chunk by chunk."""
        parts = self.weight.numpy(), self.class_ids.numpy(), self.offsets.numpy()
        weights = scipy_sparse().csr_array(parts, shape=(self.dim, self.num_classes))
        features = features.astype(weights.dtype)
        work_S = np.cumsum(np.diff(weights.indptr)[features.indices])
        work_B = np.concatenate(([0], work_S))[features.indptr]
        start = 0
        while start < features.shape[0]:
            stop = int(np.searchsorted(work_B, work_B[start] + budget.CHUNK_ELEMENTS, side="right"))
            stop = max(stop - 1, start + 1)
            scores = features[start:stop] @ weights
            rows_S = np.repeat(np.arange(stop - start), np.diff(scores.indptr))
            total_b = np.bincount(rows_S, scores.data, stop - start)
            scores.data /= np.where(total_b > 0, total_b, 1)[rows_S]
            yield scores, rows_S
            start = stop

    def _rows(self, hidden: Tensor, temperature: Tensor | float) -> Iterator["_Row"]:
        """Of each row the logits that differ from those of :meth:`_others`."""
        if (hidden.dtype, hidden.device) != (self.weight.dtype, self.weight.device):
            self._refuse_strangers({"hidden": hidden})
        power = 1 / float(temperature)
        base_C = float(self.smoothing) * self.prior.double().numpy()
        others_C = power * np.log(base_C)
        largest = others_C.max()
        parts_C = np.exp(others_C - largest)
        sum_C, squares_C = parts_C.sum(), parts_C @ parts_C
        for shares, rows_S in self._shares(self._powered(_csr(hidden))):
            ids_S, num_rows = shares.indices, shares.shape[0]
            logits_S = np.log(shares.data + base_C[ids_S]) * power
            shift_b = np.full(num_rows, largest)
            np.maximum.at(shift_b, rows_S, logits_S)
            above_b = np.exp(largest - shift_b)
            before_S = parts_C[ids_S] * above_b[rows_S]
            after_S = np.exp(logits_S - shift_b[rows_S])
            total_b = np.bincount(rows_S, after_S - before_S, num_rows) + sum_C * above_b
            gained_S = after_S * after_S - before_S * before_S
            square_b = (np.bincount(rows_S, gained_S, num_rows) + squares_C * above_b**2) / total_b**2
            logits_S = logits_S.astype(shares.dtype)
            partition_b = shift_b + np.log(total_b)
            for row, where in enumerate(map(slice, shares.indptr, shares.indptr[1:])):
                yield _Row(ids_S[where], logits_S[where], partition_b[row], square_b[row])


class _Row(NamedTuple):
    """Logits [T] of the classes that stand beside its features, and what follows from those of all."""

    ids_T: NDArray[Any]
    logits_T: NDArray[Any]
    log_partition: float
    square_sum: float


def ranked_rows(
    others_C: NDArray[Any], rows: Iterable[_Row], labels: Pairs, excluded: Pairs, k: int
) -> Iterator[tuple[Any, ...]]:
    """The best classes, their logits, logits and ranks of labels, log-partition and Σ p² of each row.

    ``others_C`` are the logits of all classes that a row does not name, ranked once for all rows.
    """
    num_classes = len(others_C)
    order_C = np.argsort(-others_C, kind="stable")
    place_C = np.empty(num_classes, np.int64)
    place_C[order_C] = np.arange(num_classes)
    falling_C = -others_C[order_C]
    logits_C, is_own_C = others_C.copy(), np.zeros(num_classes, bool)
    of_labels, of_excluded = (_by_row(pairs) for pairs in (labels, excluded))
    for row, (ids_T, logits_T, partition, square_sum) in enumerate(rows):
        label_ids_P, no_answer = of_labels(row), np.unique(of_excluded(row))
        known_P = label_ids_P.clip(0)
        if np.isnan(partition):
            nan_P, nan_K = (np.full(n, np.nan) for n in (len(known_P), k))
            yield np.arange(k), nan_K, nan_P, np.where(label_ids_P < 0, 0, 1), partition, partition
            continue
        is_own_C[ids_T], logits_C[ids_T] = True, logits_T
        labels_P = logits_C[known_P]
        ids_T = np.concatenate([ids_T, no_answer[~is_own_C[no_answer]]])
        is_own_C[ids_T], logits_C[no_answer] = True, -np.inf
        logits_T = logits_C[ids_T]

        # The classes that would be before a label if this row named none, those it names, and where they are.
        first_P, last_P = (np.searchsorted(falling_C, -labels_P, side=side) for side in ("left", "right"))
        before_P = np.where(is_own_C[known_P], first_P, place_C[known_P])
        for place in np.flatnonzero(is_own_C[known_P] & (first_P < last_P)):
            tied = order_C[first_P[place] : last_P[place]]
            before_P[place] += np.searchsorted(tied, known_P[place])
        is_before_PT = (logits_T == labels_P[:, None]) & (ids_T < known_P[:, None])
        is_before_PT |= logits_T > labels_P[:, None]
        ranks_P = 1 + before_P - (place_C[ids_T] < before_P[:, None]).sum(1) + is_before_PT.sum(1)

        ids_N, logits_N = ids_T, logits_T
        if len(ids_T) > k:
            best_N = np.flatnonzero(logits_T >= np.partition(logits_T, -k)[-k])
            ids_N, logits_N = ids_T[best_N], logits_T[best_N]
        if len(ids_N) < k or logits_N.min() <= -falling_C[0]:
            num = k
            while len(free := order_C[:num][~is_own_C[order_C[:num]]]) < k and num < num_classes:
                num *= 2
            ids_N, logits_N = np.concatenate([ids_N, free]), np.concatenate([logits_N, others_C[free]])
        order_K = np.lexsort((ids_N, -logits_N))[:k]
        labels_P[label_ids_P < 0], ranks_P[label_ids_P < 0] = np.nan, 0
        yield ids_N[order_K], logits_N[order_K], labels_P, ranks_P, partition, square_sum
        is_own_C[ids_T], logits_C[ids_T] = False, others_C[ids_T]


def _by_row(pairs: Pairs) -> Callable[[int], NDArray[np.int64]]:
    """From a row to its class ids."""
    num_rows = int(pairs.rows_P.max()) + 1 if len(pairs.rows_P) else 0
    offsets = np.searchsorted(pairs.rows_P.numpy(), np.arange(num_rows + 1)).tolist()
    ids_P = pairs.ids_P.numpy()
    return lambda row: ids_P[offsets[row] : offsets[row + 1]] if row < num_rows else ids_P[:0]


class _Choice:
    """What powers are worth on held-out rows: the mean NDCG at a few places."""

    def __init__(self, counts: Sparse, keep: int, features: Sparse, labels: Sparse, excluded: Sparse) -> None:
        used_U, at_P = np.unique(features.indices, return_inverse=True)
        shape = features.shape[0], len(used_U)
        self.features = scipy_sparse().csr_array((features.data, at_P, features.indptr), shape=shape)
        self.counts = counts[used_U]
        self.sums_U, self.sums_C = self.counts.sum(axis=1), counts.sum(axis=0)
        self.labels, self.excluded, self.keep = labels, excluded, keep
        self.gains: dict[tuple[float, ...], float] = {}
        self.weights: dict[float, Sparse] = {}

    def best(self, given: tuple[float | Auto, ...]) -> list[float]:
        """a and b, each the best there is beside the other; those given stay as they are."""
        powers = [usual if own == "auto" else own for own, usual in zip(given, USUAL_POWERS[1:], strict=True)]
        before = None if self.labels.nnz else powers
        while powers != before:
            before = list(powers)
            for axis, grid in ((1, CLASS_POWERS), (0, FEATURE_POWERS)):
                if given[axis] == "auto":
                    tried = {power: self.gain(*powers[:axis], power, *powers[axis + 1 :]) for power in grid}
                    powers[axis] = max(tried, key=lambda power: tried[power])
        return powers

    def gain(self, *powers: float) -> float:
        """The mean NDCG of a and b, kept for when it is asked again."""
        if powers not in self.gains:
            self.gains[powers] = self._gain(*powers)
        return self.gains[powers]

    def _gain(self, feature_power: float, class_power: float) -> float:
        if class_power not in self.weights:  # one at a time, as they are large
            weights = _best_of_rows(_scaled(self.counts, self.sums_C, class_power), self.keep)
            self.weights = {class_power: weights}
        scores = _scaled(self.features, self.sums_U, feature_power) @ self.weights[class_power]
        scores = scores - scores.multiply(self.excluded)
        gains = [self._gain_of(scores, row) for row in np.flatnonzero(np.diff(self.labels.indptr)).tolist()]
        return float(np.mean(gains))

    def _gain_of(self, scores: Sparse, row: int) -> float:
        ids, values = _row(scores, row)
        if len(values) > PLACES:
            best = np.argpartition(-values, PLACES)[:PLACES]
            ids, values = ids[best], values[best]
        labels = _row(self.labels, row)[0]
        hits = np.isin(ids, labels)[np.argsort(-values, kind="stable")]
        return float(DISCOUNTS[: len(ids)] @ hits / DISCOUNTS[: len(labels)].sum())


def scipy_sparse() -> Any:
    """SciPy's sparse arrays, which nothing but counting imports."""
    import scipy.sparse

    return scipy.sparse


def _num_pairs(features: Sparse, labels: Sparse) -> int:
    """Of a feature and a label in a row, over all rows."""
    return int(np.diff(features.indptr) @ np.diff(labels.indptr))


def _row(matrix: Sparse, row: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The columns and values of a row."""
    where = slice(*matrix.indptr[row : row + 2])
    return matrix.indices[where], matrix.data[where]


def _prior(class_counts: Tensor) -> Tensor:
    """[C] the shares of classes with one more row each."""
    return ((class_counts + 1) / (class_counts.sum() + len(class_counts))).float()


def _csr(hidden: Tensor) -> Sparse:
    """Rows of features as a SciPy array; what a row says twice is added up."""
    hidden = hidden.detach()
    if hidden.layout is torch.strided:
        return scipy_sparse().csr_array(hidden.numpy())
    hidden = hidden.coalesce()
    return scipy_sparse().csr_array(
        (hidden.values().numpy(), hidden.indices().numpy()), shape=tuple(hidden.shape)
    )


def _csr_of(pairs: Pairs, shape: tuple[int, int]) -> Sparse:
    """A 1 at each pair."""
    ones_P = np.ones(len(pairs.ids_P))
    return scipy_sparse().csr_array((ones_P, (pairs.rows_P.numpy(), pairs.ids_P.numpy())), shape=shape)


def _scaled(matrix: Sparse, sums: NDArray[np.float64], power: float) -> Sparse:
    """M D^-power for the sums D of the columns."""
    factors = np.where(sums > 0, sums, 1.0) ** -power
    return scipy_sparse().csr_array(
        (matrix.data * factors[matrix.indices], matrix.indices, matrix.indptr), matrix.shape
    )


def _best_of_rows(matrix: Sparse, keep: int) -> Sparse:
    """The largest entries of each row, equal ones by ascending column."""
    kept_P = matrix.data > 0
    for row in np.flatnonzero(np.diff(matrix.indptr) > keep):
        where = slice(*matrix.indptr[row : row + 2])
        values = matrix.data[where]
        least = np.partition(values, -keep)[-keep]
        kept_P[where] = values > least
        equal = np.flatnonzero(values == least)[: keep - np.count_nonzero(kept_P[where])]
        kept_P[equal + where.start] = True
    offsets = np.concatenate(([0], np.cumsum(kept_P)))[matrix.indptr]
    return scipy_sparse().csr_array(
        (matrix.data[kept_P], matrix.indices[kept_P], offsets), shape=matrix.shape
    )
