"""Counts and a trained softmax in one head, each as far as held-out rows gain by it.

Shapes: B rows, b rows of one chunk, F features, E embedding, C classes, N asked, P labels, S counted pairs.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, NamedTuple, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.heads.answers import Answers, TopK
from widemax.heads.base import CountingHead, Dim, Head, heads
from widemax.heads.counts import BEYOND_NOISE, DISCOUNTS, CountsHead
from widemax.heads.dense import excluded_pairs
from widemax.heads.exact import ExactHead
from widemax.heads.labels import Labels, SeveralLabels, known_pairs, label_pairs, no_pairs, target_shares
from widemax.heads.linear import LinearHead
from widemax.heads.sampled import SampledHead
from widemax.kernels import Added, Found, Pairs, gather_rows, stream_classes
from widemax.numerics.ids import checked_ids
from widemax.options import AtLeast1, checked

# All classes are trained at each step as long as they are so many times those drawn.
EXACT_TIMES = 8
# What the weights may be to one another, and how many classes of each part may take the first places.
PROPORTIONS = (
    *((1.0, 0.0), (1.0, 0.05), (1.0, 0.1), (1.0, 0.2), (1.0, 0.3), (1.0, 0.5)),
    *((1.0, 1.0), (0.5, 1.0), (0.2, 1.0), (0.0, 1.0)),
)
CANDIDATES = 100
# So many held-out rows decide.
CHOICE_ROWS = 5000
# Rows whose logits are so many numbers are asked at a time, and decide about the scale; finer steps cost more
# than they gain.
FITTED_LOGITS, PRECISION, LEAST_SCALE = 2**23, 1e-6, 1e-3


class Worth(NamedTuple):
    """What a part is worth: its weight, and the nll of held-out rows in nats by this part alone."""

    weight: float
    nll: float


@final
@heads.register("blend")
class BlendHead(CountingHead):
    """P(c | x) ∝ P_counts(c | x)^u · P_softmax(c | x)^v, with weights u, v ≥ 0 that held-out rows choose.

    The first part is a :class:`CountsHead`, which remembers what stands beside what. The second is trained: a
    softmax of (cos(Eᵀ x^p, w_c) + bias_c) / temperature, where E [F, E] holds an embedding of each feature,
    which generalizes. Both read the features x to the power p that the counts have, so that one encoder
    serves both. Each label of a row counts alike in the loss.

    :meth:`partial_fit` counts rows for the first part, and the loss trains the second, which :meth:`finish`
    starts with the factors of what was counted. It also chooses the proportion of the weights that ranks
    held-out rows best, and the scale of the least nll: they are never less likely than by counts alone, and
    the softmax gets 0 unless the nDCG of these rows gains by more than its noise. Before, both are one half.
    Answers are exact over all classes.

    Use: for what "counts" is for, where a few epochs more are worth it.

    Args:
        num_classes: C, or ``Classes`` with their counts.
        dim: F, the number of features.
        width: E, the length of an embedding.
        temperature: divides the cosines and the biases of the softmax.
        num_sampled: classes drawn for a step of the softmax, uniformly; all classes are taken where they are
            no more than eight times as many.
        keep: the most classes that are counted of a feature.

    Attributes:
        counts: the part that counts.
        softmax: the part that is trained.
        weights: [2] u and v.

    Source: Hinton 1999, "Products of experts", equation 1, whose experts are trained apart here.

    Example:
        >>> head = BlendHead(3, 2, width=4)
        >>> head.partial_fit(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([2, 1]))
        >>> head.finish(torch.eye(2), torch.tensor([2, 1]))
        >>> head.topk(torch.eye(2), 1).class_ids.flatten()
        tensor([2, 1])
    """

    learns_by_gradients = True
    optimizer = "lazy_adam", 0.01
    learned_sizes = frozenset(f"counts.{name}" for name in CountsHead.learned_sizes)

    weights: Tensor
    nlls: Tensor

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        width: AtLeast1 = 128,
        temperature: Annotated[float, Field(gt=0.0)] = 0.1,
        num_sampled: AtLeast1 = 512,
        keep: AtLeast1 = 400,
    ) -> None:
        classes = Classes.of(num_classes)
        super().__init__(classes, dim)
        self.normalizer = "softmax"
        self.counts = CountsHead(classes, dim, keep=keep)
        self.softmax: LinearHead
        if classes.num <= EXACT_TIMES * num_sampled:
            self.softmax = ExactHead(classes, width, temperature=temperature, score="cosine")
        else:
            self.softmax = SampledHead(
                classes,
                width,
                temperature=temperature,
                score="cosine",
                num_sampled=num_sampled,
                sampler="uniform",
                loss="multi_positive_softmax",
            )
        self.weight = self.softmax.normal(dim, width)
        self.register_buffer("weights", torch.full((len(self.parts),), 0.5))
        self.register_buffer("nlls", torch.zeros(len(self.parts) + 1))
        self._has_new_rows = self._is_trained = False

    @property
    def parts(self) -> dict[str, Head]:
        """The parts by their names."""
        return {"counts": self.counts, "softmax": self.softmax}

    @property
    def num_parameters(self) -> int:
        """How many numbers it has learned, the kept weights of the counts among them."""
        return super().num_parameters + self.counts.num_parameters

    @property
    def worth(self) -> dict[str, Worth]:
        """What each part is worth to held-out rows; nll is 0 before any were seen."""
        values = zip(self.weights.tolist(), self.nlls.tolist(), strict=False)
        return dict(zip(self.parts, map(Worth._make, values), strict=True))

    def step_factors(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Biases take smaller steps, since they are divided by the temperature and no cosine bounds them."""
        for parameter, factor in super().step_factors():
            yield parameter, self.softmax.temperature if parameter is self.softmax.bias else factor

    def seed(self, seed: int) -> None:
        super().seed(seed)
        if hasattr(self, "softmax"):  # not while it is built
            self.softmax.seed(seed)

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield from super().laws()
        yield from self.counts.laws()
        are_weights = bool((self.weights >= 0).all() and self.weights.isfinite().all() and self.weights.any())
        yield are_weights, "weights of its parts that are at least 0, one of them above"

    @property
    def operations(self) -> int:
        """Multiplications of the logit of one class."""
        return self.softmax.dim

    def told(self) -> str:
        if not self.nlls.any():
            return super().told()
        parts = [f"{name} {w.weight:.3g} (alone {w.nll:.3f})" for name, w in self.worth.items()]
        return (
            f"weights of the parts, with their held-out nll: {', '.join(parts)}; together {self.nlls[-1]:.3f}"
        )

    # Learning.

    @partial(checked, of="head.partial_fit")
    def partial_fit(self, hidden: Tensor, labels: Labels) -> None:
        self.counts.partial_fit(hidden, labels)
        self._has_new_rows = True

    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        """[B] losses of the softmax alone, which gradients train, summed over the labels of a row."""
        self._is_trained |= torch.is_grad_enabled()
        losses_B = self.softmax.row_losses(self._embedded(hidden), labels)
        return losses_B if isinstance(labels, Tensor) else losses_B * labels.offsets_B1.diff()

    @partial(checked, of="head.finish")
    def finish(
        self,
        held_out: Tensor | None = None,
        labels: Labels | None = None,
        *,
        exclude: SeveralLabels | None = None,
    ) -> None:
        self.begin(held_out, labels, exclude=exclude)
        if held_out is not None and labels is not None:
            pairs = label_pairs(labels, held_out)
            excluded = excluded_pairs(exclude, held_out, no_pairs(held_out.device), self.num_classes)
            self._choose(held_out, pairs, excluded)

    def begin(
        self,
        held_out: Tensor | None,
        labels: Labels | None,
        *,
        exclude: SeveralLabels | None = None,
        classes: Tensor | None = None,
    ) -> None:
        if self._has_new_rows:
            self.counts.finish(held_out, labels, exclude=exclude)
            self._has_new_rows = False
            if not self._is_trained:
                self._start(classes)

    def training_state(self) -> dict[str, Tensor]:
        stage = torch.tensor([self._has_new_rows, self._is_trained])
        state = super().training_state() | {"stage": stage}
        for name, part in self.parts.items():
            state |= {f"{name}.{key}": value for key, value in part.training_state().items()}
        return state

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        super().load_training_state(state)
        self._has_new_rows, self._is_trained = state["stage"].tolist()
        for name, part in self.parts.items():
            start = f"{name}."
            own = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
            part.load_training_state(own)

    @torch.no_grad()
    def _start(self, classes: Tensor | None) -> None:
        """Begin with the factors of what was counted; rows without any stay as they are."""
        rank = min(self.softmax.dim, self.dim, self.num_classes)
        tables = self.counts.factors(rank, classes=classes, generator=self.softmax.generator.clone_state())
        for weight, factors in zip((self.weight, self.softmax.weight), tables, strict=True):
            counted = factors.any(1).nonzero().squeeze(1)
            # Of one length: the factors of what is rare are short, and steps would turn them at once.
            weight[counted, :rank] = nn.functional.normalize(factors[counted]).to(weight)
        self.weight[:, rank:] = 0

    @torch.no_grad()
    def _choose(self, hidden: Tensor, labels: Pairs, excluded: Pairs) -> None:
        """The proportion of the weights that ranks held-out rows best, and the scale of the least nll.

        The nll is convex in the scale. What makes it worse than counts alone, or ranks better by chance, is
        no choice: they are there without any training. That of the softmax alone may be less where its
        ranking is worse.
        """
        from scipy.optimize import minimize

        known = known_pairs(labels)
        rows_B = torch.unique(known.rows_P)[:CHOICE_ROWS]
        if not len(rows_B):
            return
        num_rows = max(1, FITTED_LOGITS // self.num_classes)
        hidden = hidden.index_select(0, rows_B)
        labels = _among(rows_B, known)
        embedded_BE = self._embedded(hidden)
        excluded = _among(rows_B, excluded)
        places = torch.split(torch.arange(len(rows_B)), num_rows)
        gains_BG = torch.cat([self._gains(hidden, embedded_BE, labels, excluded, at_b) for at_b in places])
        more_BG = gains_BG - gains_BG[:, :1]
        noise_G = BEYOND_NOISE * more_BG.std(dim=0, correction=0) / len(rows_B) ** 0.5
        is_gain = more_BG.mean(0) > noise_G
        is_gain[0] = True

        few_b, (_, pairs) = torch.arange(min(num_rows, len(rows_B))), labels.of_rows(0, num_rows)
        parts = self.counts.logits(hidden.index_select(0, few_b)), self.softmax.logits(embedded_BE[few_b])
        shares_P = target_shares(pairs, len(few_b))

        def fitted(proportion: tuple[float, float]) -> tuple[float, float]:
            """The least nll and its scale."""
            logits_bC = proportion[0] * parts[0] + proportion[1] * parts[1]
            mean = float(shares_P @ logits_bC[tuple(pairs)].double()) / len(few_b)

            def nll(scale: np.ndarray) -> tuple[float, float]:
                scaled_bC = logits_bC * float(scale[0])
                log_z_b = scaled_bC.logsumexp(1)
                expected_b = torch.linalg.vecdot(scaled_bC.sub_(log_z_b[:, None]).exp_(), logits_bC)
                value, slope = log_z_b.double().mean(), expected_b.double().mean()
                return float(value) - scale[0] * mean, float(slope) - mean

            limits = {"bounds": [(LEAST_SCALE, None)], "options": {"ftol": PRECISION}}
            found = minimize(nll, [1.0], jac=True, method="L-BFGS-B", **limits)
            return float(found.fun), float(found.x[0])

        alone = {proportion: fitted(proportion) for proportion in (PROPORTIONS[0], PROPORTIONS[-1])}
        least = alone[PROPORTIONS[0]][0]
        for place in gains_BG.mean(0).argsort(descending=True, stable=True).tolist():
            if not is_gain[place]:
                continue
            proportion = PROPORTIONS[place]
            nll, scale = alone[proportion] if proportion in alone else fitted(proportion)
            if nll <= least:
                break
        self.weights.copy_(scale * torch.tensor(proportion))
        self.nlls.copy_(torch.tensor([*(value for value, _ in alone.values()), nll]))

    def _gains(
        self, hidden: Tensor, embedded_BE: Tensor, labels: Pairs, excluded: Pairs, rows_b: Tensor
    ) -> Tensor:
        """[b, proportions] NDCG at a few places of neighboring rows, among the best classes of both parts."""
        stretch = int(rows_b[0]), int(rows_b[-1]) + 1
        labels, excluded = (pairs.of_rows(*stretch)[1] for pairs in (labels, excluded))
        hidden = hidden.index_select(0, rows_b)
        logits = self.counts.logits(hidden), self.softmax.logits(embedded_BE[rows_b])
        for logits_bC in logits:
            logits_bC[tuple(excluded)] = -torch.inf
        k = min(CANDIDATES, self.num_classes)
        ids_BN = torch.cat([logits_bC.topk(k).indices for logits_bC in logits], 1).sort(1).values
        parts = [logits_bC.gather(1, ids_BN) for logits_bC in logits]
        barred_BN = parts[0] == -torch.inf
        barred_BN[:, 1:] |= ids_BN[:, 1:] == ids_BN[:, :-1]
        first_B1 = torch.arange(len(hidden))[:, None] * self.num_classes
        is_label_BN = torch.isin(ids_BN + first_B1, labels.ids_P + first_B1[labels.rows_P, 0])
        discounts_K = torch.from_numpy(DISCOUNTS)[: 2 * k]
        most_B = discounts_K.cumsum(0)[torch.bincount(labels.rows_P).clamp(max=len(discounts_K)) - 1]
        gains = []
        for counts, softmax in PROPORTIONS:
            logits_BN = (counts * parts[0] + softmax * parts[1]).masked_fill(barred_BN, -torch.inf)
            logits_BK, places_BK = logits_BN.topk(len(discounts_K))
            hits_BK = is_label_BN.gather(1, places_BK) & (logits_BK > -torch.inf)
            gains.append(hits_BK.to(discounts_K) @ discounts_K / most_B)
        return torch.stack(gains, 1)

    def _embedded(self, hidden: Tensor) -> Tensor:
        """[B, E] Eᵀ x^p; the gradient of E is over the features that stand in a row of sparse ones."""
        power = float(self.counts.powers[0])
        if hidden.layout is torch.strided:
            return _to_the_power(hidden, power) @ self.weight
        rows_P, features_P = hidden._indices()
        used_U, places_P = torch.unique(features_P, return_inverse=True)
        size = len(hidden), len(used_U)
        places = torch.stack([rows_P, places_P])
        values_P = _to_the_power(hidden._values(), power)
        few_BU = torch.sparse_coo_tensor(places, values_P, size, check_invariants=False)
        embedded_BE: Tensor = torch.sparse.mm(few_BU, gather_rows(self.weight, used_U))
        return embedded_BE

    # Answers.

    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        """As of every head, with a gradient as far as gradients train it."""
        class_ids = torch.arange(self.num_classes) if class_ids is None else class_ids
        class_ids = checked_ids(class_ids, self.num_classes, "class_ids", hidden)
        counted, trained = (self.weights / self.calibration_temperature).unbind()
        own = self.softmax.logits(self._embedded(hidden), class_ids)
        return trained * own + counted * self.counts.logits(hidden, class_ids)

    @torch.no_grad()
    def log_partition(self, hidden: Tensor) -> Tensor:
        found = self._found(hidden, no_pairs(hidden.device), None, k=0)
        return found.shift_B + found.log_sum_B

    @torch.no_grad()
    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        return self._found(hidden, no_pairs(hidden.device), None, k=0).log_probs(
            self.logits(hidden, class_ids)
        )

    def answers_about(self, hidden: Tensor, labels: Pairs, k: int, exclude: SeveralLabels | None) -> Answers:
        found = self._found(hidden, labels, exclude, k=k)
        return Answers(
            TopK(found.topk_ids_BK, found.topk_logits_BK, found.log_probs(found.topk_logits_BK)),
            found.shift_B + found.log_sum_B,
            (found.log_square_sum_B - 2 * found.log_sum_B).exp(),
            found.label_logits_P,
            found.log_probs(found.label_logits_P, labels.rows_P),
            found.label_ranks_P,
        )

    def _found(self, hidden: Tensor, labels: Pairs, exclude: SeveralLabels | None, *, k: int) -> Found:
        """The exact answers: those of a linear layer, whose logits of counted pairs are more than that."""
        excluded = excluded_pairs(exclude, hidden, labels, self.num_classes)
        counted, trained = (self.weights / self.calibration_temperature).unbind()
        others_C, parts = self.counts.gains(hidden)
        weight_CE, bias_C = self.softmax.scored_rows(torch.arange(self.num_classes))
        scaled_BE = self.softmax.score.scaled(self._embedded(hidden)) * (trained / self.softmax.temperature)
        layer = weight_CE, trained * bias_C + counted * others_C
        found, start = [], 0
        for part in parts:
            stop = start + part.shape[0]
            by_class = part.tocsc()
            ids_S = np.repeat(np.arange(self.num_classes), np.diff(by_class.indptr))
            rows_S = by_class.indices.astype(np.int64)
            added = Added(*map(torch.from_numpy, (rows_S, ids_S, by_class.data * float(counted))))
            pairs = (each.of_rows(start, stop)[1] for each in (labels, excluded))
            found.append(stream_classes(scaled_BE[start:stop], *layer, *pairs, k=k, added=added))
            start = stop
        return Found(*(torch.cat(tensors) for tensors in zip(*found, strict=True)))


def _to_the_power(values: Tensor, power: float) -> Tensor:
    """The sign of each value times |value|^power; 0 stays 0."""
    return values.sign() * values.abs().pow(power)


def _among(rows_B: Tensor, pairs: Pairs) -> Pairs:
    """The pairs of some rows, which rise, with rows counted among these."""
    kept_P = torch.isin(pairs.rows_P, rows_B)
    return Pairs(torch.searchsorted(rows_B, pairs.rows_P[kept_P]), pairs.ids_P[kept_P])
