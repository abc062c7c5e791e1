"""The closed form that counts which classes stand beside which features.

Shapes: B rows, b rows of one chunk, F features, C classes, P (feature, class) pairs or labels, S scores of a
chunk, T of a row, K kept.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from widemax import native
from widemax.classes import Classes
from widemax.heads.answers import Answers, TopK
from widemax.heads.base import Dim, heads
from widemax.heads.dense import excluded_pairs
from widemax.heads.labels import (
    Labels,
    SeveralLabels,
    known_pairs,
    label_pairs,
    no_pairs,
    target_shares,
    training_pairs,
)
from widemax.heads.sparse_rows import (
    Sparse,
    SparseRowsHead,
    csr_of_pairs,
    csr_of_rows,
    index_dtype,
    powered,
    scipy_sparse,
    sparse_laws,
    sparse_product,
)
from widemax.kernels import Pairs, budget
from widemax.numerics.ids import checked_ids
from widemax.options import AtLeast1, checked

Auto = Literal["auto"]
Power = Annotated[float, Field(ge=0, le=1)]
LARGEST_VALUE_POWER = 8.0
ValuePower = Annotated[float, Field(ge=0, le=LARGEST_VALUE_POWER)]
CountPower = Annotated[float, Field(gt=0, le=1)]

USUAL_POWERS = 1.0, 0.4, 0.2, 1.0
USUAL_SMOOTHING = 0.1
SMOOTHING, TEMPERATURE = (1e-4, 100.0), (0.1, 10.0)
# What held-out rows choose from, how many are asked, at first and in the end, and how many places count.
VALUE_POWERS = 0.0, 0.5, 1.0, 2.0
FEATURE_POWERS, CLASS_POWERS = (tuple(n / 20 for n in range(*ends)) for ends in ((4, 17), (0, 13)))
COUNT_POWERS = tuple(n / 10 for n in range(4, 11))
FIRST_ROWS, CHOICE_ROWS = 500, 2500
# By so many standard errors a choice must gain over the usual: one worth nothing is made one time in twenty.
BEYOND_NOISE = 1.645
# The power of the prior beside a feature that held-out rows may prefer to 1.
FLATTER = 0.5
PLACES = 20
DISCOUNTS = 1 / np.log2(np.arange(2, PLACES + 2))
# Scores that smoothing and temperature are fitted to, trials, how far their logarithms go in the first ones,
# and how near these and the nll come to the best.
CALIBRATION_WORK, CALIBRATION_TRIALS, FIRST_STEPS = 2**24, 60, (1.0, 0.2)
LEAST_PRIOR = float(torch.finfo(torch.float32).tiny)
PRECISION = {"xatol": 0.02, "fatol": 1e-5}
# Of how many times as many classes a feature they choose, the best for this class power.
CANDIDATES, MIDDLE_POWER = 2, 0.3
# Vectors beyond those asked for, and rounds, that make the singular vectors found at random nearly right.
MORE_VECTORS, ROUNDS = 8, 2


@final
@heads.register("counts")
class CountsHead(SparseRowsHead):
    """P(c | x) ∝ (s_c / Σ_j s_j + smoothing · μ_c)^(1 / temperature) with s = x W, where W is counted.

    W = (D_f^-a (Xᵀ D_row Y) D_c^-b)^q, entry by entry: X [rows, F] holds the features of the training rows to
    the power p, D_row divides each by its Euclidean length, Y [rows, C] holds the labels, and D_f and D_c are
    the sums of what stands between them over the classes and over the features. Of each feature the best
    classes are kept. Below 1, q lets what several features say weigh more than what one says often. μ_c is
    the frequency π_c of the class, with one more row, to the power of the temperature that held-out rows
    choose: the frequencies are the answer where no feature says anything. Where s_c > 0 it may be √(π_c / C),
    which disturbs the order of the scores less, if held-out rows are ranked better by it. Where features are
    the items of a history that fade with their distance, counts are directed and decayed, and p changes the
    decay.

    No gradient trains it: :meth:`partial_fit` counts rows, :meth:`merge` adds what another head has counted,
    and :meth:`finish` makes the weights, for which held-out rows choose p, a, b, q, smoothing and
    temperature. Hidden vectors are the features themselves, dense, or sparse as an encoder whose ``dim`` is
    "features" gives them. In answers, which are exact over all classes, what is below 0 counts as 0.

    Use: for histories of items and for texts with many labels. One pass over the data takes seconds, and what
    is rare is remembered; nothing is said about features that met no class.

    Args:
        num_classes: C, or ``Classes`` with their counts.
        dim: F, the number of features.
        value_power: p; 0 only asks which features there are. "auto" is what held-out rows choose.
        feature_power: a, likewise.
        class_power: b, likewise; 0 favors frequent classes.
        count_power: q, likewise.
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
    prior_power: Tensor
    powers: Tensor

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        value_power: ValuePower | Auto = "auto",
        feature_power: Power | Auto = "auto",
        class_power: Power | Auto = "auto",
        count_power: CountPower | Auto = "auto",
        keep: AtLeast1 = 400,
    ) -> None:
        classes = Classes.of(num_classes)
        super().__init__(classes, dim)
        self.normalizer = "softmax"
        self.given_powers = value_power, feature_power, class_power, count_power
        self.keep = keep
        self.register_buffer("offsets", torch.zeros(dim + 1, dtype=torch.int64))
        self.register_buffer("class_ids", torch.empty(0, dtype=torch.int32))
        self.register_buffer("weight", torch.empty(0))
        counts = torch.zeros(classes.num) if classes.counts is None else classes.counts
        self.register_buffer("prior", _prior(counts.double()))
        self.register_buffer("smoothing", torch.tensor(USUAL_SMOOTHING))
        self.register_buffer("prior_power", torch.tensor(1.0))
        powers = [u if g == "auto" else g for g, u in zip(self.given_powers, USUAL_POWERS, strict=True)]
        self.register_buffer("powers", torch.tensor(powers))

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield from super().laws()
        yield from sparse_laws(self.offsets, self.class_ids, self.num_classes)
        is_whole = len(self.weight) == len(self.class_ids)
        yield is_whole and bool((self.weight > 0).all()), "a weight above 0 a class id"
        is_share = bool((self.prior > 0).all()) and abs(float(self.prior.double().sum()) - 1) < 1e-3
        yield is_share, "a prior above 0 that sums to 1"
        yield bool(0 < self.smoothing <= SMOOTHING[1]), f"a smoothing in (0, {SMOOTHING[1]}]"
        yield bool(0 < self.prior_power <= 1), "a power of the prior in (0, 1]"
        limits = torch.tensor([LARGEST_VALUE_POWER, 1.0, 1.0, 1.0])
        are_powers = bool(((self.powers >= 0) & (self.powers <= limits)).all() and self.powers[3] > 0)
        yield are_powers, f"powers within {limits.tolist()}, the last one above 0"

    @property
    def num_parameters(self) -> int:
        """How many weights it keeps."""
        return len(self.weight)

    def counts(self) -> Sparse:
        """Xᵀ D_row Y of all rows so far, a SciPy array [F, C] in float32."""
        features, labels = self.rows_so_far()
        return powered(features, float(self.powers[0])).T.tocsr() @ labels

    def factors(
        self, rank: int, *, generator: torch.Generator, classes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best two tables of a rank for D_f^-½ Xᵀ D_row Y D_c^-½ of all rows so far, about.

        Args:
            rank: how many numbers a feature and a class have, F and C at most.
            generator: of the vectors that the search begins with.
            classes: [C, F] features P of each class, as of :meth:`begin`: rows also count the other way
                round, Y P in place of X and X Pᵀ in place of Y.

        Returns:
            D_f^-½ U √S [F, rank] and V √S [C, rank], for singular values S and vectors U and V.

        Source: Halko, Martinsson and Tropp 2011, "Finding structure with randomness", algorithm 4.4.
        """
        features, labels = self.rows_so_far()
        features = powered(features, float(self.powers[0]))
        if classes is not None:
            of_CF, vstack = csr_of_rows(classes), scipy_sparse().vstack
            features, labels = (
                vstack([features, labels @ of_CF], format="csr"),
                vstack([labels, features @ of_CF.T], format="csr"),
            )
        pairs = _Pairs(features, labels)
        scale_F1 = _factors(pairs.sums_F, 0.5)[:, None]
        features_FN, labels_NC = (
            pairs.rows_of_features.multiply(scale_F1).tocsr(),
            _scaled(labels, pairs.sums_C, 0.5),
        )
        size = min(rank + MORE_VECTORS, self.dim, self.num_classes)
        basis_CR = torch.randn(self.num_classes, size, generator=generator)
        for _ in range(ROUNDS):
            sums_FR = torch.from_numpy(features_FN @ (labels_NC @ basis_CR.numpy()))
            sums_CR = torch.from_numpy(labels_NC.T @ (features_FN.T @ torch.linalg.qr(sums_FR).Q.numpy()))
            basis_CR = torch.linalg.qr(sums_CR).Q
        sums_FR = torch.from_numpy(features_FN @ (labels_NC @ basis_CR.numpy()))
        left_FR, values_R, right_RR = torch.linalg.svd(sums_FR, full_matrices=False)
        roots_R = values_R[:rank].sqrt()
        table_FR = torch.from_numpy(scale_F1) * left_FR[:, :rank] * roots_R
        return table_FR, basis_CR @ right_RR.T[:, :rank] * roots_R

    @partial(checked, of="head.finish")
    def finish(
        self,
        held_out: Tensor | None = None,
        labels: Labels | None = None,
        *,
        exclude: SeveralLabels | None = None,
    ) -> None:
        rows, held = self.rows_so_far(), None
        if held_out is not None and labels is not None:
            held = self._held_out(held_out, labels, exclude)
            self.powers.copy_(torch.tensor(_Choice(*rows, self.keep, *held).best(self.given_powers)))
        value_power, feature_power, class_power, count_power = self.powers.tolist()
        pairs = _Pairs(powered(rows[0], value_power), rows[1])
        weights = pairs.best(class_power, self.keep)
        weights.data *= np.repeat(_factors(pairs.sums_F, feature_power), np.diff(weights.indptr))
        weights.data **= np.float32(count_power)
        weights.sort_indices()
        weights.eliminate_zeros()  # what is less than float32 can hold
        self.offsets = torch.from_numpy(weights.indptr.astype(np.int64))
        self.class_ids = torch.from_numpy(weights.indices.astype(np.int32))
        self.weight = torch.from_numpy(weights.data)
        self.prior = _prior(torch.from_numpy(pairs.labels.sum(axis=0)).double())
        counted_C = self.prior.double()
        if held is None or not held[1].nnz:
            self.prior = _tempered(counted_C, float(self.calibration_temperature)).float()
            return
        usual = self._smooth(counted_C, *held, prior_power=1.0)
        numbers = self.prior, self.smoothing.clone(), self.calibration_temperature.clone()
        if not is_beyond_noise(self._smooth(counted_C, *held, prior_power=FLATTER) - usual):
            self.prior_power.fill_(1.0)
            self.prior, self.smoothing, self.calibration_temperature = numbers

    def _smooth(
        self, counted_C: Tensor, features: Sparse, labels: Sparse, excluded: Sparse, *, prior_power: float
    ) -> NDArray[np.float64]:
        """Fits everything beside the weights, for this power of the prior: the NDCG of each row then."""
        self.prior_power.fill_(prior_power)
        self._calibrate(counted_C, features, labels)
        self.prior = _tempered(counted_C, float(self.calibration_temperature)).float()
        more_C = self._more()
        gains: list[float] = []
        for scores, _ in self._shares(powered(features, float(self.powers[0])), budget.CHUNK_ELEMENTS):
            scores.data += more_C[scores.indices]
            rows = range(len(gains), len(gains) + scores.shape[0])
            if excluded.nnz:
                scores -= scores.multiply(excluded[rows.start : rows.stop])
            gains += [_gain(_row(scores, at), _row(labels, row)[0]) for at, row in enumerate(rows)]
        return np.array(gains)

    def _held_out(
        self, hidden: Tensor, labels: Labels, exclude: SeveralLabels | None
    ) -> tuple[Sparse, Sparse, Sparse]:
        """Features, known labels and excluded classes of as many rows with a known label as decide."""
        pairs = label_pairs(labels, hidden)
        excluded = excluded_pairs(exclude, hidden, pairs, self.num_classes)
        shape = len(hidden), self.num_classes
        matrices = (
            csr_of_rows(hidden),
            csr_of_pairs(known_pairs(pairs), shape),
            csr_of_pairs(excluded, shape),
        )
        rows = np.unique(np.linspace(0, len(hidden) - 1, CHOICE_ROWS).astype(np.int64))
        rows = rows[np.diff(matrices[1].indptr)[rows] > 0]
        features, known, no_answer = (matrix[rows] for matrix in matrices)
        return features, known, no_answer

    def _calibrate(self, counted_C: Tensor, features: Sparse, labels: Sparse) -> None:
        """Fits smoothing and temperature to the labels of held-out rows, by the mean of nll over rows."""
        from scipy.optimize import minimize

        rows = powered(features, float(self.powers[0]))
        shares, rows_S = next(self._shares(rows, CALIBRATION_WORK))
        num_rows = shares.shape[0]
        labels = labels[:num_rows]
        rows_P = np.repeat(np.arange(num_rows), np.diff(labels.indptr))
        label_shares_P = shares[rows_P, labels.indices]
        part_P = 1 / np.diff(labels.indptr)[rows_P]
        is_counted_P = torch.from_numpy(label_shares_P > 0)
        shares_S, ids_S = torch.from_numpy(shares.data), torch.from_numpy(shares.indices)
        ids_P = torch.from_numpy(labels.indices)

        def nll(logs: Any) -> float:
            smoothing, temperature = np.exp(logs)
            prior_C, power = _tempered(counted_C, temperature), 1 / temperature
            base_C, more_C = smoothing * prior_C, smoothing * self._flattened(prior_C)
            parts_C = base_C**power
            gained_S = (more_C.to(shares_S)[ids_S] + shares_S) ** power - parts_C.to(shares_S)[ids_S]
            total_B = float(parts_C.sum()) + np.bincount(rows_S, gained_S, num_rows)
            more_P = torch.where(is_counted_P, more_C[ids_P], base_C[ids_P]).numpy()
            logits_P = power * np.log(label_shares_P + more_P)
            return float(part_P @ (np.log(total_B)[rows_P] - logits_P) / num_rows)

        found = minimize(
            nll,
            begin := np.log([USUAL_SMOOTHING, 1.0]),
            method="Nelder-Mead",
            bounds=np.log([SMOOTHING, TEMPERATURE]),
            options={
                "maxfev": CALIBRATION_TRIALS,
                "initial_simplex": begin + np.diag([0.0, *FIRST_STEPS])[:, 1:],
                **PRECISION,
            },
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

    def answers_about(self, hidden: Tensor, labels: Pairs, k: int, exclude: SeveralLabels | None) -> Answers:
        excluded = excluded_pairs(exclude, hidden, labels, self.num_classes)
        return self._answers(hidden, labels, excluded, k, self.calibration_temperature)

    def _answers(
        self, hidden: Tensor, labels: Pairs, excluded: Pairs, k: int, temperature: Tensor | float
    ) -> Answers:
        if native.takes(self.weight):
            others_C, power = self._smoothed(temperature)
            found = native.count_answers(
                self._powered_rows(hidden),
                (self.offsets, self.class_ids, self.weight),
                (self._flattened(self.prior).numpy(), float(self.smoothing), others_C, power),
                labels,
                excluded,
                k,
            )
        else:
            found = self._ranked(hidden, labels, excluded, k, temperature)
        ids_BK, logits_BK, label_logits_P, ranks_P, partition_B, square_B = found
        return Answers(
            TopK(ids_BK, logits_BK, logits_BK - partition_B[:, None]),
            partition_B,
            square_B,
            label_logits_P,
            label_logits_P - partition_B[labels.rows_P],
            ranks_P,
        )

    def _ranked(
        self, hidden: Tensor, labels: Pairs, excluded: Pairs, k: int, temperature: Tensor | float
    ) -> tuple[Tensor, ...]:
        """Most classes of a row have the logits that they have in every row, so that few are looked at."""
        rows = ranked_rows(self._others(temperature), self._rows(hidden, temperature), labels, excluded, k)
        parts: list[list[Any]] = [[] for _ in range(6)]
        for part, values in zip(parts, zip(*rows, strict=True), strict=False):
            part.extend(values)
        ids, logits, label_logits, ranks, partitions, squares = parts

        def joined(arrays: list[NDArray[Any]], kind: Any) -> Tensor:
            return torch.from_numpy(np.concatenate([np.empty(0, kind), *arrays]).astype(kind, copy=False))

        shape, dtype = (len(hidden), k), self.weight.numpy().dtype
        return (
            *(joined(ids, np.int64).view(shape), joined(logits, dtype).view(shape)),
            *(joined(label_logits, dtype), joined(ranks, np.int64)),
            *map(self.weight.new_tensor, (partitions, squares)),
        )

    def _smoothed(self, temperature: Tensor | float) -> tuple[NDArray[np.float64], float]:
        """[C] the logits of classes that stand beside no feature of a row, and the power of shares."""
        power = 1 / float(temperature)
        return power * np.log(self._base()), power

    def _others(self, temperature: Tensor | float) -> NDArray[Any]:
        """[C] the logits of classes that stand beside no feature of a row."""
        return self._smoothed(temperature)[0].astype(self.weight.numpy().dtype)

    def _shares(self, features: Sparse, work: int) -> Iterator[tuple[Sparse, NDArray[np.int64]]]:
        """s_c / Σ_j s_j of the classes that stand beside some feature, and their rows, chunk by chunk."""
        # As wide as class ids where they suffice, or these would be widened.
        offsets_F1 = self.offsets.numpy().astype(index_dtype(len(self.weight)))
        parts = self.weight.numpy(), self.class_ids.numpy(), offsets_F1
        weights = scipy_sparse().csr_array(parts, shape=(self.dim, self.num_classes))
        features = features.astype(weights.dtype)
        for part in _parts(features, np.cumsum(np.diff(weights.indptr)[features.indices]), work):
            scores, num_rows = sparse_product(part, weights), part.shape[0]
            rows_S = np.repeat(np.arange(num_rows), np.diff(scores.indptr))
            total_b = np.bincount(rows_S, scores.data, num_rows)
            scores.data /= np.where(total_b > 0, total_b, 1)[rows_S]
            yield scores, rows_S

    def gains(self, hidden: Tensor) -> tuple[Tensor, Iterator[Sparse]]:
        """What the logits of all classes are made of.

        Args:
            hidden: [B, F] features.

        Returns:
            [C] the logits of classes that stand beside no feature of a row; and what they are more or less
            for those that do: some rows [b, C] at a time as SciPy arrays in CSR form.
        """

        def parts() -> Iterator[Sparse]:
            base_C, more_C, temperature = self._base(), self._more(), float(self.calibration_temperature)
            for shares, _ in self._shares(self._powered_rows(hidden), budget.CHUNK_ELEMENTS):
                sums = shares.data + more_C[shares.indices]
                gains = np.log(sums / base_C[shares.indices]) / temperature
                shares.data = gains.astype(shares.dtype)
                yield shares

        return torch.from_numpy(self._others(self.calibration_temperature)), parts()

    def _base(self) -> NDArray[np.float64]:
        """[C] what stands in place of the share of each class that is beside no feature of a row."""
        return float(self.smoothing) * self.prior.double().numpy()

    def _more(self) -> NDArray[np.float64]:
        """[C] what is added to the share of each class that is beside a feature."""
        return float(self.smoothing) * self._flattened(self.prior).double().numpy()

    def _flattened(self, prior_C: Tensor) -> Tensor:
        """π_c^r C^(r - 1)."""
        if self.prior_power == 1:
            return prior_C
        power = float(self.prior_power)
        flattened_C: Tensor = prior_C**power * self.num_classes ** (power - 1)
        return flattened_C

    def _powered_rows(self, hidden: Tensor) -> Sparse:
        """D_row X^p of rows that the head can answer."""
        if (hidden.dtype, hidden.device) != (self.weight.dtype, self.weight.device):
            self._refuse_strangers({"hidden": hidden})
        return powered(csr_of_rows(hidden), float(self.powers[0]))

    def _rows(self, hidden: Tensor, temperature: Tensor | float) -> Iterator["_Row"]:
        """Of each row the logits that differ from those of :meth:`_others`."""
        more_C, (others_C, power) = self._more(), self._smoothed(temperature)
        largest = others_C.max()
        parts_C = np.exp(others_C - largest)
        sum_C, squares_C = parts_C.sum(), parts_C @ parts_C
        for shares, rows_S in self._shares(self._powered_rows(hidden), budget.CHUNK_ELEMENTS):
            ids_S, num_rows = shares.indices, shares.shape[0]
            logits_S = np.log(shares.data + more_C[ids_S]) * power
            shift_b = np.full(num_rows, largest)
            with np.errstate(invalid="ignore"):  # what is infinite has no answer
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


class _Pairs:
    """Which features and labels stand in one row; their products are made a part at a time."""

    def __init__(self, features: Sparse, labels: Sparse) -> None:
        self.rows_of_features, self.labels = features.T.tocsr(), labels
        self.sums_F = self.rows_of_features @ labels.sum(axis=1, dtype=np.float64)
        self.sums_C = labels.T @ features.sum(axis=1, dtype=np.float64)

    def best(self, class_power: float, keep: int, features_U: Any = slice(None)) -> Sparse:
        """Of each feature the largest entries of Xᵀ D_row Y D_c^-b, equal ones by ascending class."""
        labels, rows = _scaled(self.labels, self.sums_C, class_power), self.rows_of_features[features_U]
        work_P = np.cumsum(np.diff(labels.indptr)[rows.indices])
        parts = [
            best_of_rows(sparse_product(part, labels), keep)
            for part in _parts(rows, work_P, budget.HELD_ELEMENTS)
        ]
        return scipy_sparse().vstack(parts, format="csr")


class _Choice:
    """What powers are worth on held-out rows: the mean NDCG at a few places."""

    def __init__(
        self,
        features: Sparse,
        labels: Sparse,
        keep: int,
        held_out: Sparse,
        held_labels: Sparse,
        excluded: Sparse,
    ) -> None:
        self.rows, self.keep = (features, labels), keep
        asked_B = np.flatnonzero(np.diff(held_labels.indptr))
        self.held_out, self.labels, self.excluded = (m[asked_B] for m in (held_out, held_labels, excluded))
        self.every = max(1, len(asked_B) // FIRST_ROWS)
        self.gains: dict[tuple[float, ...], NDArray[np.float64]] = {}
        # Of one of each power but that of the classes at a time, as they are large.
        self.counted: dict[float, tuple[Sparse, NDArray[Any], NDArray[Any], Sparse]] = {}
        self.scores: dict[tuple[float, ...], Sparse] = {}

    def best(self, given: tuple[float | Auto, ...]) -> list[float]:
        """p, a, b and q, each the best there is beside the others; those given stay as they are."""
        powers = tuple(
            usual if own == "auto" else own for own, usual in zip(given, USUAL_POWERS, strict=True)
        )
        if not self.labels.nnz:
            return list(powers)
        axes = [axis for axis, own in enumerate(given) if own == "auto"]
        if not any(map(_has_unlike, (self.rows[0], self.held_out))):  # without, powers change nothing
            axes = [axis for axis in axes if axis]
        grids = VALUE_POWERS, FEATURE_POWERS, CLASS_POWERS, COUNT_POWERS

        def beside(*moved: int, near: bool = True) -> tuple[float, ...]:
            """The best powers that differ in these at most."""
            choices: list[tuple[float, ...]] = [(power,) for power in powers]
            for axis in {*moved} & {*axes}:
                at = grids[axis].index(powers[axis])
                # Of all but p every second one at first.
                every = grids[axis][:: 1 + (axis > 0)]
                choices[axis] = grids[axis][max(at - 1, 0) : at + 2] if near else every
            return max(product(*choices), key=self.gain)

        def settle(*moved: int) -> None:
            """Goes on to the best powers beside, a and b together, since one makes up for the other."""
            nonlocal powers
            before: tuple[float, ...] = ()
            while powers != before:
                while powers != before:
                    before, powers = powers, beside(1, 2)
                    powers = beside(*moved)
                powers = beside(0)  # another one is dear, as all is counted again for it

        # All p, b and a at first, by some rows, afterwards by all rows those beside the best so far. Then all
        # q, of which another one than the usual must gain more than chance would.
        for axis in (0, 2, 1):
            powers = beside(axis, near=False)
        if self.every > 1:
            self.every, self.gains, self.scores = 1, {}, {}
        settle()
        if 3 in axes:
            usual = powers
            powers = beside(3, near=False)
            settle(3)
            if not is_beyond_noise(self.gains[powers] - self.gains[usual]):
                powers = usual
        return list(powers)

    def gain(self, powers: tuple[float, ...]) -> float:
        """The mean NDCG of p, a, b and q; those of the rows are kept for when it is asked again."""
        if powers not in self.gains:
            value_power, feature_power, class_power, count_power = powers
            sums_C, scores = self._scored(value_power, feature_power, count_power)
            scores = _scaled(scores, sums_C, (class_power - MIDDLE_POWER) * count_power)
            labels = self.labels[:: self.every]
            gains = [_gain(_row(scores, row), _row(labels, row)[0]) for row in range(labels.shape[0])]
            self.gains[powers] = np.array(gains)
        return float(self.gains[powers].mean())

    def _scored(
        self, value_power: float, feature_power: float, count_power: float
    ) -> tuple[NDArray[np.float64], Sparse]:
        """The scores of the middle class power, and what to scale them by for another one."""
        if value_power not in self.counted:
            self.counted, self.scores = {}, {}
            features = powered(self.held_out, value_power)
            used_U, at_P = np.unique(features.indices, return_inverse=True)
            shape = features.shape[0], len(used_U)
            parts = features.data, at_P.astype(index_dtype(*shape)), features.indptr
            features = scipy_sparse().csr_array(parts, shape=shape)
            pairs = _Pairs(powered(self.rows[0], value_power), self.rows[1])
            candidates = pairs.best(MIDDLE_POWER, CANDIDATES * self.keep, used_U)
            self.counted[value_power] = features, pairs.sums_F[used_U], pairs.sums_C, candidates
        features, sums_U, sums_C, candidates = self.counted[value_power]
        powers = value_power, feature_power, count_power
        if powers not in self.scores:
            features = _scaled(features[:: self.every], sums_U, feature_power * count_power)
            counts = candidates.data ** np.float32(count_power), candidates.indices, candidates.indptr
            scores = sparse_product(features, scipy_sparse().csr_array(counts, candidates.shape))
            if self.excluded.nnz:
                scores -= scores.multiply(self.excluded[:: self.every])
            self.scores = {powers: scores}
        return sums_C, self.scores[powers]


def is_beyond_noise(more_B: NDArray[np.float64]) -> bool:
    """Whether a choice gains so much on held-out rows that chance would not."""
    return bool(more_B.mean() > BEYOND_NOISE * more_B.std() / len(more_B) ** 0.5)


def _gain(scores: tuple[NDArray[Any], NDArray[Any]], labels: NDArray[Any]) -> float:
    """NDCG at a few places of one row, by the classes that have scores and these."""
    ids, values = scores
    if len(values) > PLACES:
        best = np.argpartition(-values, PLACES)[:PLACES]
        ids, values = ids[best], values[best]
    hits = (ids[:, None] == labels).any(1)[np.argsort(-values, kind="stable")]
    return float(DISCOUNTS[: len(ids)] @ hits / DISCOUNTS[: len(labels)].sum())


def _parts(matrix: Sparse, work_P: NDArray[np.int64], work: int) -> Iterator[Sparse]:
    """Consecutive rows whose entries make about so much work, which ``work_P`` adds up; at least one part."""
    work_B1 = np.concatenate(([0], work_P))[matrix.indptr]
    start, num_rows = 0, matrix.shape[0]
    while start < max(num_rows, 1):
        stop = int(np.searchsorted(work_B1, work_B1[start] + work, side="right")) - 1
        yield matrix[start : (stop := max(stop, start + 1))]
        start = stop


def _row(matrix: Sparse, row: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The columns and values of a row."""
    where = slice(*matrix.indptr[row : row + 2])
    return matrix.indices[where], matrix.data[where]


def _has_unlike(rows: Sparse) -> bool:
    """Whether some row has values that differ."""
    lengths_B = np.diff(rows.indptr)
    firsts = rows.data[rows.indptr[:-1][lengths_B > 0]]
    return bool((rows.data != np.repeat(firsts, lengths_B[lengths_B > 0])).any())


def _prior(class_counts: Tensor) -> Tensor:
    """[C] the shares of classes with one more row each."""
    return ((class_counts + 1) / (class_counts.sum() + len(class_counts))).float()


def _tempered(prior_C: Tensor, temperature: float) -> Tensor:
    """What becomes the prior, where nothing else is known, once it is raised to the power 1 / temperature."""
    powered_C = prior_C**temperature
    return (powered_C / powered_C.sum()).clamp(min=LEAST_PRIOR)


def _factors(sums: NDArray[np.float64], power: float) -> NDArray[np.float32]:
    """D^-power, and 1 for what was never counted."""
    return (np.where(sums > 0, sums, 1.0) ** -power).astype(np.float32)


def _scaled(matrix: Sparse, sums: NDArray[np.float64], power: float) -> Sparse:
    """M D^-power for the sums D of the columns."""
    parts = matrix.data * _factors(sums, power)[matrix.indices], matrix.indices, matrix.indptr
    return scipy_sparse().csr_array(parts, matrix.shape)


def best_of_rows(matrix: Sparse, keep: int) -> Sparse:
    """The largest entries of each row, equal ones by ascending column."""
    kept_P = np.ones(matrix.nnz, bool)
    for row in np.flatnonzero(np.diff(matrix.indptr) > keep).tolist():
        where = slice(*matrix.indptr[row : row + 2])
        values = matrix.data[where]
        sorted_values = values.copy()
        sorted_values.partition(-keep)
        least = sorted_values[-keep]
        kept = np.greater_equal(values, least, out=kept_P[where])
        if (surplus := np.count_nonzero(kept) - keep) > 0:
            equal = np.flatnonzero(values == least)
            kept[equal[np.argsort(matrix.indices[where][equal])[-surplus:]]] = False
    places = np.flatnonzero(kept_P)
    offsets = np.searchsorted(places, matrix.indptr)
    return scipy_sparse().csr_array((matrix.data[places], matrix.indices[places], offsets), matrix.shape)
