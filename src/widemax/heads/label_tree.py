"""A tree of sparse linear separators for texts with several of many labels.

Shapes: B rows, b rows of one chunk, N rows so far, F features, C classes, T trees, G groups of one, L leaves
(T C) and M groups (T G) of all, E numbers that stand for a row, n rows and c classes of one group, P pairs.
"""

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from math import log, log2
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from widemax.classes import Classes
from widemax.errors import ConfigError
from widemax.heads.answers import Answers, TopK
from widemax.heads.base import Dim, heads
from widemax.heads.counts import DISCOUNTS, is_beyond_noise
from widemax.heads.dense import answer_rows, excluded_pairs
from widemax.heads.labels import Labels, SeveralLabels, known_pairs, label_pairs, training_pairs
from widemax.heads.sparse_rows import (
    Sparse,
    SparseRowsHead,
    csr_of_pairs,
    csr_of_rows,
    powered,
    scipy_sparse,
    sparse_laws,
)
from widemax.heads.trees import kmeans_order
from widemax.kernels import Pairs, budget
from widemax.numerics.ids import checked_ids
from widemax.options import AtLeast1, checked

FEW_CLASSES, CLASSES_AT_ONCE, TREES = 2048, 128, 3
"""So many are separated from all rows, without groups, these at a time; more make so many trees."""
BIAS = -1.0
"""What a separator says of a row without features."""
BLOCK_ROWS, WEIGHTS_AT_ONCE = 128, 1 << 16


class Effort(NamedTuple):
    """Sweeps over the rows, and the least weight that is kept."""

    sweeps: int
    least_weight: float


WITHIN_GROUPS, WITHOUT_GROUPS = Effort(3, 0.1), Effort(5, 0.02)
"""Within groups weights are large; against all rows many are small, and say something together."""
VECTOR_LENGTH, ROUNDS = 64, 3
CALIBRATION_ROWS, CALIBRATION_NUMBERS = 500, 2**24
USUAL_SCALES = (3.0, 0.0), (3.0, 0.0)
LARGEST_SCALE = 30.0
RARITIES, PLACES = (0.0, 0.025, 0.05, 0.075, 0.1, 0.15), 5
"""r, what held-out rows choose from by their NDCG at so many places."""
LIKELY, LEAST_LEFT = -1.0, float(torch.finfo(torch.float32).tiny)
"""Log-probabilities above the first leave too little to be computed from them, at least the second."""
_LARGEST_RARENESS = 44  # ln 2^63 is less
LEVELS = "group_", ""
"""What the names of their tensors begin with."""


@final
@heads.register("label_tree")
class LabelTreeHead(SparseRowsHead):
    """P(c | x) = σ(a x·v_g + b) · σ(a' (x·w_c + r L_c) + b') for a class c of group g, with sparse v and w.

    Similar classes stand in one of about √C groups of equal size, and each group's v separates the rows with
    a class of the group from all others; each w_c separates the rows of the class from those with another
    class of the group, which are the hard ones. Both are support vector machines with a squared hinge, one
    against the rest, and weights below 0.1 are dropped. Rows to come score less than those learned from, the
    more so the fewer rows a class has; L_c = -ln of its share of the rows makes up for it, where x has
    features. Held-out rows choose a, b, a', b', and r where they are ranked better than by chance. Several
    trees, of other groups each, answer by the mean of their probabilities. Up to 2,048 classes make no
    groups: then P(c | x) = σ(a' (x·w_c + r L_c) + b'), with weights from 0.02 on, more nearly solved.

    No gradient trains it: :meth:`partial_fit` keeps rows, :meth:`merge` adds those of another head, and
    :meth:`finish` learns from all of them. Hidden vectors are the features themselves, dense, or sparse as an
    encoder whose ``dim`` is "features" gives them, and divided by their length; what is below 0 counts as 0.
    Answers are exact over all classes, and probabilities are those of yes-or-no questions.

    Use: for texts with several of hundreds to tens of thousands of labels, of which it is the default where
    rows are not too many. Learning takes longer than that of "counts".

    Args:
        num_classes: C, or ``Classes`` with their counts.
        dim: F, the number of features.
        groups: G; "auto" is the power of two nearest to √C, and 1 up to 2,048 classes.
        trees: T; "auto" is 3, and 1 where there is one group.

    Raises:
        ConfigError: several trees of one group, which would be alike.

    Source: Prabhu et al. 2018, "Parabel: Partitioned label trees for extreme classification"; with groups as
    many as classes in each, Khandagale, Xiao and Babbar 2020, "Bonsai: diverse and shallow trees for extreme
    multi-label classification".

    Example:
        >>> head = LabelTreeHead(3, 2)
        >>> head.partial_fit(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([2, 1]))
        >>> head.finish()
        >>> head.topk(torch.eye(2), 1).class_ids.flatten()
        tensor([2, 1])
    """

    separates = True
    learned_sizes = frozenset(f"{level}{name}" for level in LEVELS for name in ("ids", "weight"))

    group_of_leaf: Tensor
    scales: Tensor
    rarity: Tensor
    rareness_C: Tensor
    weight: Tensor

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        groups: AtLeast1 | Literal["auto"] = "auto",
        trees: AtLeast1 | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(num_classes, dim)
        self.normalizer = "sigmoid"
        if groups == "auto":
            groups = 1 if self.num_classes <= FEW_CLASSES else 1 << round(log2(self.num_classes) / 2)
        self.num_groups = min(groups, self.num_classes)
        if trees == "auto":
            trees = TREES if self.num_groups > 1 else 1
        if trees > 1 and self.num_groups == 1:
            raise ConfigError(f"{trees} trees of one group are alike; leave trees out, or give more groups.")
        self.num_trees = trees
        first_T1 = self.num_groups * torch.arange(trees)[:, None]
        groups_TC = first_T1 + torch.arange(self.num_classes) % self.num_groups
        self.register_buffer("group_of_leaf", groups_TC.flatten())
        self.register_buffer("scales", torch.tensor(USUAL_SCALES))
        self.register_buffer("rarity", torch.zeros(()))
        self.register_buffer("rareness_C", torch.zeros(self.num_classes))
        for level in LEVELS:
            self.register_buffer(f"{level}offsets", torch.zeros(dim + 1, dtype=torch.int64))
            self.register_buffer(f"{level}ids", torch.empty(0, dtype=torch.int32))
            self.register_buffer(f"{level}weight", torch.empty(0))

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield from super().laws()
        tree_L = torch.arange(self.num_leaves) // self.num_classes
        num_groups = self._shape("group_")[1]
        is_own = bool((self.group_of_leaf // self.num_groups == tree_L).all())
        sizes_M = torch.bincount(self.group_of_leaf.clamp(0, num_groups - 1), minlength=num_groups)
        yield is_own and int(sizes_M.max() - sizes_M.min()) <= 1, f"{self.num_groups} groups of equal size"
        for level in LEVELS:
            weight, ids, offsets = self._sparse(level)
            yield from sparse_laws(offsets, ids, self._shape(level)[1])
            yield len(weight) == len(ids) and bool(weight.isfinite().all()), "a finite weight an id"
        in_range = self.scales.abs() <= LARGEST_SCALE
        yield bool(in_range.all() and (self.scales[:, 0] > 0).all()), f"scales within {LARGEST_SCALE}"
        yield 0 <= float(self.rarity) <= RARITIES[-1], f"a rarity within {RARITIES[-1]}"
        in_range = (self.rareness_C >= 0) & (self.rareness_C < _LARGEST_RARENESS)
        yield bool(in_range.all()), f"rareness within {_LARGEST_RARENESS}"

    @property
    def adds_features(self) -> bool:
        """As of every head: without groups it does."""
        return self.num_groups == 1

    @property
    def num_leaves(self) -> int:
        """L, a class of each tree."""
        return self.num_trees * self.num_classes

    @property
    def num_parameters(self) -> int:
        """How many weights it keeps."""
        return sum(len(getattr(self, f"{level}weight")) for level in LEVELS)

    @partial(checked, of="head.finish")
    def finish(
        self,
        held_out: Tensor | None = None,
        labels: Labels | None = None,
        *,
        exclude: SeveralLabels | None = None,
    ) -> None:
        features, own = self.rows_so_far()
        features = powered(features, 1.0)
        random = np.random.default_rng(self.generator.initial_seed())
        if self.num_groups == 1:
            parts = np.array_split(np.arange(self.num_classes), -(-self.num_classes // CLASSES_AT_ONCE))
            found = [_separators(features, own[:, part], part, random, WITHOUT_GROUPS) for part in parts]
        else:
            vectors_CE = _class_vectors(features, own, random)
            found, of_groups = [], []
            for tree in range(self.num_trees):
                order_C = kmeans_order(vectors_CE, seed=int(random.integers(2**31)))
                first_leaf, first_group = tree * self.num_classes, tree * self.num_groups
                for group, group_c in enumerate(np.array_split(order_C, self.num_groups), first_group):
                    group_c.sort()
                    self.group_of_leaf[first_leaf + group_c] = group
                    own_Nc = own[:, group_c]
                    rows_n = np.flatnonzero(np.diff(own_Nc.indptr))
                    problem = features[rows_n], own_Nc[rows_n], first_leaf + group_c
                    found.append(_separators(*problem, random, WITHIN_GROUPS))
                ids_G = np.arange(first_group, first_group + self.num_groups)
                own_NG = (own @ self._members())[:, ids_G]
                of_groups.append(_separators(features, own_NG, ids_G, random, WITHIN_GROUPS))
            self._keep("group_", of_groups)
        self._keep("", found)
        learned_C = torch.from_numpy(own.sum(axis=0))
        self.rareness_C = _rareness(learned_C, learned_C, own.shape[0])
        if held_out is not None and labels is not None:
            known = known_pairs(label_pairs(labels, held_out))
            # Counted without these rows, a class would seem rare just where they have it.
            counts_C = learned_C + known.ids_P.bincount(minlength=self.num_classes)
            self.rareness_C = _rareness(learned_C, counts_C, own.shape[0] + len(held_out))
            most = min(CALIBRATION_ROWS, 1 + CALIBRATION_NUMBERS // self.num_leaves)
            rows = powered(csr_of_rows(held_out)[:most], 1.0)
            shape = rows.shape[0], self.num_classes
            self._calibrate(rows, csr_of_pairs(known.of_rows(0, most)[1], shape))

    def _members(self) -> Sparse:
        """[C, M] a 1 at the groups of each class."""
        pairs = Pairs(torch.arange(self.num_leaves) % self.num_classes, self.group_of_leaf)
        return csr_of_pairs(pairs, (self.num_classes, self._shape("group_")[1]))

    def _keep(self, level: str, found: Sequence[tuple[NDArray[Any], ...]]) -> None:
        """Take the weights of all problems of a level."""
        features_P, ids_P, weights_P = (np.concatenate(part) for part in zip(*found, strict=True))
        matrix = scipy_sparse().csr_array((weights_P, (features_P, ids_P)), shape=self._shape(level))
        matrix.sort_indices()
        setattr(self, f"{level}offsets", torch.from_numpy(matrix.indptr.astype(np.int64)))
        setattr(self, f"{level}ids", torch.from_numpy(matrix.indices.astype(np.int32)))
        setattr(self, f"{level}weight", torch.from_numpy(matrix.data.astype(np.float32)))

    def _calibrate(self, features: Sparse, own: Sparse) -> None:
        """Fits a and b of both levels to held-out rows, which choose r between them."""
        self.rarity.zero_()
        if self.num_groups > 1:  # of one level the order is the same however it is scaled
            self._scale(features, own)
        gains, own_BC = [], torch.from_numpy(own.toarray() > 0)
        for rarity in RARITIES:
            self.rarity.fill_(rarity)
            gains.append(_gains(self._logits(features, 1.0), own_BC))
        best = int(np.argmax([gains_B.sum() for gains_B in gains]))
        is_better = len(gains[0]) and is_beyond_noise(gains[best] - gains[0])
        self.rarity.fill_(RARITIES[best] if is_better else 0.0)
        self._scale(features, own)

    def _scale(self, features: Sparse, own: Sparse) -> None:
        """Fits a and b of both levels; classes count in the groups of the row's own."""
        own_BL = np.tile(own.toarray() > 0, self.num_trees)
        own_BM = (own @ self._members()).toarray() > 0
        is_asked_BL = own_BM[:, self.group_of_leaf.numpy()] if self.num_groups > 1 else np.ones_like(own_BL)
        asked = (own_BM, np.full_like(own_BM, self.num_groups > 1)), (own_BL, is_asked_BL)
        for row, (level, (is_own, is_asked)) in enumerate(zip(LEVELS, asked, strict=True)):
            scores_BL = self._gained(features, level).toarray() + self._biases(level).numpy()
            scores_P, is_own_P = scores_BL[is_asked].astype(np.float64), is_own[is_asked]
            if is_own_P.any() and not is_own_P.all():
                self.scales[row] = torch.tensor(_fitted_scale(scores_P, is_own_P))

    # Answers.

    def _gained(self, features: Sparse, level: str) -> Sparse:
        """[b, groups or leaves] what the features of some rows add to the scores of separators."""
        weight, ids, offsets = (state.numpy() for state in self._sparse(level))
        weights = scipy_sparse().csr_array((weight, ids, offsets), shape=self._shape(level))
        return features.astype(weight.dtype) @ weights

    def _biases(self, level: str) -> Tensor:
        """What the separators of one level say of a row before its features do."""
        biases = self.weight.new_full(self._shape(level)[1:], BIAS)
        return biases if level else biases + (self.rarity * self.rareness_C).repeat(self.num_trees)

    def _log_sigmoids(self, features: Sparse, level: str) -> Tensor:
        """[b, groups or leaves] log-probabilities of one level, most of which are those of no features."""
        gained = self._gained(features, level)
        scale = self.scales[LEVELS.index(level)].to(self.weight.dtype)
        biases_L, gains_P = self._biases(level), torch.from_numpy(gained.data)
        ids_P = torch.from_numpy(gained.indices)
        log_probs_P = logsigmoid((gains_P + biases_L.index_select(0, ids_P)) * scale[0] + scale[1])
        log_probs_bL = logsigmoid(biases_L * scale[0] + scale[1]).repeat(gained.shape[0], 1)
        log_probs_bL[np.diff(features.indptr) == 0] = logsigmoid(BIAS * scale[0] + scale[1])
        rows_P = np.repeat(np.arange(gained.shape[0]), np.diff(gained.indptr))
        log_probs_bL.numpy()[rows_P, gained.indices] = log_probs_P.numpy()
        return log_probs_bL

    def _sparse(self, level: str) -> list[Tensor]:
        """Weights, column ids and offsets of one level."""
        return [getattr(self, f"{level}{name}") for name in ("weight", "ids", "offsets")]

    def _shape(self, level: str) -> tuple[int, int]:
        return self.dim, self.num_trees * (self.num_groups if level == "group_" else self.num_classes)

    def _logits(self, features: Sparse, temperature: Tensor | float) -> Tensor:
        """[b, C] log-odds of all classes."""
        log_probs_bL = self._log_sigmoids(features, "")
        if self.num_groups > 1:
            log_probs_bL += self._log_sigmoids(features, "group_").index_select(1, self.group_of_leaf)
        of_trees_bTC = log_probs_bL.view(-1, self.num_trees, self.num_classes)
        log_probs_bC = reduce(torch.logaddexp, of_trees_bTC.unbind(1)) - log(self.num_trees)
        # The few that are likely are 1 less what is left of each tree, which may be too little for 1 - p.
        rows_P, ids_P = (log_probs_bC > LIKELY).nonzero().unbind(1)
        left_P = -torch.expm1(of_trees_bTC[rows_P, :, ids_P].double()).mean(1)
        log_left_bC = torch.log1p(-log_probs_bC.exp())
        log_left_bC[rows_P, ids_P] = left_P.clamp_(min=LEAST_LEFT).log_().to(log_left_bC.dtype)
        return (log_probs_bC - log_left_bC) / float(temperature)

    def _rows(self, hidden: Tensor) -> Sparse:
        if (hidden.dtype, hidden.device) != (self.weight.dtype, self.weight.device):
            self._refuse_strangers({"hidden": hidden})
        return powered(csr_of_rows(hidden), 1.0)

    def _all_logits(self, hidden: Tensor, temperature: Tensor | float) -> Iterator[tuple[slice, Tensor]]:
        """The logits of some rows at a time."""
        rows, at_once = self._rows(hidden), max(1, budget.CHUNK_ELEMENTS // self.num_leaves)
        for start in range(0, len(hidden), at_once):
            at = slice(start, start + at_once)
            yield at, self._logits(rows[at], temperature)

    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        """[B] Σ_j softplus(logit_j) − Σ_p logit_p over the row's labels p; it has no gradient."""
        pairs = training_pairs(labels, hidden, self.num_classes)
        losses_B = self.weight.new_zeros(len(hidden))
        for at, logits_bC in self._all_logits(hidden, 1.0):
            own = pairs.of_rows(at.start, at.stop)[1]
            losses_B[at] = softplus(logits_bC).sum(1)
            losses_B[at].index_add_(0, own.rows_P, -logits_bC[own.rows_P, own.ids_P])
        return losses_B

    @torch.no_grad()
    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        """As of every head, but without a gradient."""
        ids_N = torch.arange(self.num_classes) if class_ids is None else class_ids
        ids_N = checked_ids(ids_N, self.num_classes, "class_ids", hidden)
        ids_BN = ids_N.expand(len(hidden), ids_N.shape[-1])
        logits_BN = self.weight.new_empty(ids_BN.shape)
        for at, logits_bC in self._all_logits(hidden, self.calibration_temperature):
            logits_BN[at] = logits_bC.gather(1, ids_BN[at])
        return logits_BN

    def log_partition(self, hidden: Tensor) -> Tensor:
        return self.logits(hidden).logsumexp(1)

    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        return logsigmoid(self.logits(hidden, class_ids))

    def answers_about(self, hidden: Tensor, labels: Pairs, k: int, exclude: SeveralLabels | None) -> Answers:
        rows = self._rows(hidden)
        found = answer_rows(
            lambda at_b: self._logits(rows[at_b.numpy()], self.calibration_temperature),
            *(torch.arange(len(hidden)), labels, excluded_pairs(exclude, hidden, labels, self.num_classes)),
            k=k,
            rows_at_once=max(1, budget.CHUNK_ELEMENTS // self.num_leaves),
        )
        best, nothing_B = found.topk, torch.full_like(found.square_sum, torch.nan)
        return Answers(
            TopK(best.class_ids, best.logits, logsigmoid(best.logits)),
            nothing_B,
            nothing_B,
            found.label_logits,
            logsigmoid(found.label_logits),
            found.label_ranks,
        )


def _class_vectors(features: Sparse, own: Sparse, random: np.random.Generator) -> NDArray[np.float32]:
    """[C, E] the mean rows of the classes, of length 1, in the directions along which rows differ most.

    Source: Halko, Martinsson and Tropp 2011, "Finding structure with randomness", algorithm 4.4.
    """
    num_rows, num_features = features.shape
    length = min(VECTOR_LENGTH, num_rows, num_features)
    basis_NE = random.standard_normal((num_rows, length), dtype=np.float32)
    for _ in range(ROUNDS):
        basis_NE = np.linalg.qr(features @ (features.T @ basis_NE))[0]
    reduced_FE = features.T @ basis_NE
    squares_E, turn_EE = np.linalg.eigh(reduced_FE.T @ reduced_FE)
    vectors_CE: NDArray[np.float32] = own.T @ (basis_NE @ (turn_EE * np.sqrt(squares_E.clip(0))))
    lengths_C1 = np.linalg.norm(vectors_CE, axis=1, keepdims=True)
    vectors_CE /= np.where(lengths_C1 > 0, lengths_C1, 1)
    return vectors_CE


def _separators(
    features: Sparse,
    own: Sparse,
    ids_c: NDArray[np.int64],
    random: np.random.Generator,
    effort: Effort,
) -> tuple[NDArray[Any], ...]:
    """The features, class ids and weights that are kept of one problem, whose rows may have any labels."""
    from widemax.solvers import Separators, used_columns  # whose room loads SciPy

    used_U, places = used_columns(features)
    num_rows = features.shape[0]
    if not num_rows:
        return used_U, ids_c[:0], np.empty(0, np.float32)
    rows = scipy_sparse().csr_matrix((features.data, places, features.indptr), shape=(num_rows, len(used_U)))
    parts = np.array_split(random.permutation(num_rows), -(-num_rows // BLOCK_ROWS))
    blocks = ((rows[part], own[part].toarray() > 0) for part in parts)
    separators = Separators(blocks, seed=int(random.integers(2**31)))
    for _ in range(effort.sweeps):
        separators.sweep()
    weights = separators.weight_FC.numpy().ravel()
    kept_P = _large(weights, effort.least_weight)
    features_P, classes_P = np.divmod(kept_P, len(ids_c))
    return used_U[features_P], ids_c[classes_P], weights[kept_P]


def _large(weights: NDArray[np.float32], least: float) -> NDArray[np.int64]:
    """Where weights are at least so far from 0; some are asked at a time, in memory that is used again."""
    starts = range(0, len(weights) or 1, WEIGHTS_AT_ONCE)
    parts = [
        start + np.flatnonzero(np.abs(weights[start : start + WEIGHTS_AT_ONCE]) >= least) for start in starts
    ]
    return np.concatenate(parts)


def _rareness(learned_C: Tensor, counts_C: Tensor, num_rows: int) -> Tensor:
    """L_c of the classes that were learned, 0 of others."""
    return torch.where(learned_C > 0, -(counts_C / num_rows).log(), 0).float()


def _gains(logits_BC: Tensor, own_BC: Tensor) -> NDArray[np.float64]:
    """The NDCG at a few places of each row that has labels."""
    own_BC, logits_BC = (rows[own_BC.any(1)] for rows in (own_BC, logits_BC))
    places_BK = logits_BC.topk(min(PLACES, logits_BC.shape[1])).indices
    discounts_K = torch.from_numpy(DISCOUNTS)[: places_BK.shape[1]]
    most_B = discounts_K.cumsum(0)[own_BC.sum(1).clamp(max=len(discounts_K)) - 1]
    gains_BK = own_BC.gather(1, places_BK) * discounts_K
    gains_B: NDArray[np.float64] = (gains_BK.sum(1) / most_B).numpy()
    return gains_B


def _fitted_scale(scores_P: NDArray[np.float64], is_own_P: NDArray[np.bool_]) -> list[float]:
    """a and b of the least mean cross-entropy of σ(a s + b)."""
    from scipy.optimize import minimize

    signs_P = np.where(is_own_P, -1.0, 1.0)

    def loss(scale: Any) -> tuple[float, NDArray[np.float64]]:
        wrong_P = signs_P * (scale[0] * scores_P + scale[1])
        slope_P = signs_P / (1 + np.exp(-wrong_P)) / len(scores_P)
        return float(np.logaddexp(0, wrong_P).mean()), np.array([slope_P @ scores_P, slope_P.sum()])

    bounds = (1e-3, LARGEST_SCALE), (-LARGEST_SCALE, LARGEST_SCALE)
    found = minimize(loss, USUAL_SCALES[0], jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(number) for number in found.x]
