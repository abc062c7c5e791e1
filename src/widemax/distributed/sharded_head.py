"""A linear head whose class weights lie in several processes.

Shapes: B rows of all processes, N own rows, D hidden, C classes, S sampled, P labels, K kept.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.distributed.exact_loss import sharded_exact_loss
from widemax.distributed.exchange import Exchange, summed
from widemax.distributed.softmax import combine, partition
from widemax.distributed.world import World
from widemax.encoders.placement import Placement
from widemax.errors import ConfigError, UsageError
from widemax.heads import ExactHead, LinearHead, SampledHead, SeveralLabels, SubCenterHead, heads
from widemax.heads.dense import best_by_id, excluded_pairs
from widemax.heads.exact_loss import margin_shifts
from widemax.heads.labels import Labels, target_shares, training_pairs
from widemax.heads.linear import prior_logits
from widemax.heads.sampled_loss import loss_of_negatives, score_candidates, softmax_of_candidates
from widemax.kernels import Found, Pairs, Powers, budget, linear_logsumexp, stream_classes, topk_by_id
from widemax.losses import sub_center_cosines
from widemax.losses.base import Reduction, reduce_loss, row_weights
from widemax.numerics import log_sigmoid
from widemax.numerics.ids import checked_ids

SHARDED = ("exact", "sampled", "sub_center")
"""The heads whose class weights can be split."""
DRAWN_AT_ONCE = 2**21
"""First weights are drawn so many at a time, of all classes, of which each process keeps its own."""


@final
class ShardedHead(LinearHead):
    """An "exact", "sampled" or "sub_center" head of which each process holds the weights of some classes.

    Every process calls the same methods in the same order. In training each gives its own rows, of which it
    may have none; loss, gradients and steps are those of one process with all rows and weights, up to
    rounding. Questions are asked of all with the same rows. First weights and candidates are drawn from one
    generator, alike on all: they are bitwise those of one process, whatever the number of processes.

    Args:
        kind: "exact", "sampled" or "sub_center".
        num_classes: C, or ``Classes`` with their counts.
        dim: D.
        world: the processes.
        options: those of the head.

    Raises:
        ConfigError: a head, loss or sampler that needs all class weights in one place.

    Example:
        >>> from widemax.distributed import World
        >>> head = ShardedHead("exact", 1000, 16, world=World())
        >>> head(torch.zeros(2, 16), torch.tensor([3, 999])).detach()  # log 1000
        tensor(6.9078)
    """

    # Its rows are not those of all classes.
    has_weight_rows = False

    def __init__(
        self, kind: str, num_classes: int | Classes, dim: int, *, world: World, **options: Any
    ) -> None:
        if kind not in SHARDED:
            raise ConfigError(
                f"the head {kind!r} needs all its weights in one place, unlike {list(SHARDED)}; set "
                "distributed.shard_classes = false."
            )
        classes = Classes.of(num_classes)
        with torch.device("meta"):
            whole = heads[kind](classes, dim, **options)
            assert isinstance(whole, ExactHead | SampledHead | SubCenterHead)
            super().__init__(
                classes,
                dim,
                normalizer=whole.normalizer,
                temperature=whole.temperature,
                bias=getattr(whole, "bias", None) is not None,
                score=whole.score,
            )
        self.register_buffer("calibration_temperature", torch.ones(()))
        self.world = world
        self.exchange = Exchange(world)
        self.placement = Placement(classes.num, world.size, world.rank)
        whole.generator = self.generator
        # In a tuple, as it is no part of this one: its weights are none.
        self.options: tuple[ExactHead | SampledHead | SubCenterHead] = (whole,)
        _refuse(whole)
        self.weight = nn.Parameter(self._drawn(whole.weight.shape))
        if self.bias is not None:
            bias_C = torch.zeros(len(self.placement))
            if classes.counts is not None:
                prior_C = prior_logits(classes, whole.normalizer, self.placement.ids())
                bias_C.copy_(whole.temperature * prior_C)
            self.bias = nn.Parameter(bias_C)

    def extra_repr(self) -> str:
        return f"{self.options[0].extra_repr()}, shard {self.world.rank} of {self.world.size}"

    def training_state(self) -> dict[str, Tensor]:
        return self.options[0].training_state()

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        self.options[0].load_training_state(state)

    def forward(
        self,
        hidden: Tensor,
        labels: Labels,
        *,
        sample_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        if reduction == "none":
            raise UsageError("reduction must be 'mean' or 'sum' over the rows of all processes; got 'none'.")
        whole = self.options[0]
        own_pairs = training_pairs(labels, hidden, self.num_classes)
        hidden_BD, pairs, counts = self.exchange(hidden, own_pairs)
        if sample_weight is not None:
            sample_weight = self.world.gather(sample_weight, counts)
        if not isinstance(whole, ExactHead):
            losses = self._sampled_losses if isinstance(whole, SampledHead) else self._center_losses
            loss_B = losses(hidden_BD, pairs)
            return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)
        own_P = self.placement.holds(pairs.ids_P)
        own = Pairs(pairs.rows_P[own_P], self.placement.rows(pairs.ids_P[own_P]))
        is_softmax = self.normalizer == "softmax"
        shares_P = target_shares(pairs, len(hidden_BD))
        shifts_P = None
        if self.score.has_margin:
            shifts_P = margin_shifts(hidden_BD, self.weight, own, self.score) / self.temperature
        return sharded_exact_loss(
            self.world,
            self.placement,
            row_weights(hidden_BD, sample_weight=sample_weight, reduction=reduction),
            (self.score.scaled(hidden_BD), self.score.scaled(self.weight), self.bias),
            pairs,
            shares_P if is_softmax else torch.ones_like(shares_P),
            own_P,
            shifts_P,
            options=(is_softmax, self.temperature, whole.label_smoothing),
        )

    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        return self.forward(hidden, labels, reduction="none")

    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        if class_ids is None:
            class_ids = torch.arange(self.num_classes, device=hidden.device)
        class_ids = checked_ids(class_ids, self.num_classes, "class_ids", hidden)
        own = self.placement.holds(class_ids)
        rows = self.placement.rows(class_ids[own])
        if self.weight.ndim == 3:
            centers_BC = self._center_logits(hidden)
            logits_BN = hidden.new_zeros(len(hidden), class_ids.shape[-1])
            own_BN = own.expand_as(logits_BN)
            rows_P, columns_P = own_BN.nonzero().T
            ids_P = class_ids.expand_as(logits_BN)[own_BN]
            logits_BN[rows_P, columns_P] = centers_BC[rows_P, self.placement.rows(ids_P)]
            return summed(logits_BN, self.world)
        scaled_BD, bias_C = self.answering(hidden)
        if class_ids.ndim == 1:
            logits_BN = scaled_BD.new_zeros(len(hidden), len(class_ids))
            logits_BN[:, own] = scaled_BD @ self.score.scaled(self.weight[rows]).T
        else:
            logits_BN = scaled_BD.new_zeros(class_ids.shape)
            rows_P = own.nonzero()[:, 0]
            logits_BN[own] = torch.linalg.vecdot(scaled_BD[rows_P], self.score.scaled(self.weight[rows]))
        if bias_C is not None:
            logits_BN = logits_BN + torch.zeros_like(class_ids, dtype=bias_C.dtype).masked_scatter(
                own, bias_C[rows]
            )
        return summed(logits_BN, self.world)

    def stream(
        self, hidden: Tensor, labels: Pairs, *, k: int, exclude: SeveralLabels | None, powers: Powers
    ) -> Found:
        """The answers of all parts, of which each process has its own streamed, put together."""
        is_known_P = labels.ids_P >= 0
        own_P = self.placement.holds(labels.ids_P) & is_known_P
        excluded = self._own(excluded_pairs(exclude, hidden, labels, self.num_classes))
        own = Pairs(labels.rows_P[own_P], self.placement.rows(labels.ids_P[own_P]))
        found = self._found(hidden, own, excluded, k=min(k, len(self.placement)), powers=powers)
        logits_P = found.label_logits_P.new_zeros(len(own_P))
        logits_P[own_P] = found.label_logits_P
        logits_P = self.world.sum(logits_P)
        before_P = torch.zeros_like(labels.ids_P)
        before_P[own_P] = found.label_ranks_P - 1
        other_P = is_known_P & ~own_P
        if len(self.placement) and bool(other_P.any()):
            others = Pairs(labels.rows_P[other_P], self.placement.rows(labels.ids_P[other_P]))
            elsewhere_P = logits_P[other_P]
            of_others = self._found(hidden, others, excluded, k=0, powers=0, label_logits=elsewhere_P)
            before_P[other_P] = of_others.label_ranks_P - 1
        ranks_P = torch.where(is_known_P, 1 + self.world.sum(before_P), 0)
        topk = self._best(found, k)
        totals = found.log_sum_B.double().exp(), found.log_square_sum_B.double().exp()
        shift_B, sum_B, square_sum_B = combine(self.world, found.shift_B, *totals)
        dtype = found.shift_B.dtype
        logits_P = logits_P.masked_fill(~is_known_P, torch.nan)
        return Found(*topk, shift_B, sum_B.log().to(dtype), square_sum_B.log().to(dtype), logits_P, ranks_P)

    def _found(
        self,
        hidden: Tensor,
        labels: Pairs,
        excluded: Pairs,
        *,
        k: int,
        powers: Powers,
        label_logits: Tensor | None = None,
    ) -> Found:
        """The answers of the own classes, by their rows."""
        if not len(self.placement):
            return _nothing(hidden)
        if self.weight.ndim == 3:
            parts = []
            size = max(1, budget.HELD_ELEMENTS // len(self.placement))
            for start in range(0, max(len(hidden), 1), size):
                (where, some), (_, out) = (pairs.of_rows(start, start + size) for pairs in (labels, excluded))
                known = None if label_logits is None else label_logits[where]
                logits_bC = self._center_logits(hidden[start : start + size])
                parts.append(_dense_answers(logits_bC, some, out, k, known))
            return Found(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        scaled_BD, bias_C = self.answering(hidden)
        weight_CD = self.score.scaled(self.weight)
        return stream_classes(
            *(scaled_BD, weight_CD, bias_C, labels, excluded), k=k, powers=powers, label_logits=label_logits
        )

    def _center_logits(self, hidden: Tensor) -> Tensor:
        """[B, C'] logits of the nearest centers of the own classes."""
        temperature = self.temperature * self.calibration_temperature
        logits_BC: Tensor = sub_center_cosines(hidden, self.weight) / temperature
        return logits_BC

    def _best(self, found: Found, k: int) -> tuple[Tensor, Tensor]:
        """The k best of all parts: logits and ids."""
        num_own = found.topk_logits_BK.shape[1]
        logits_BK = nn.functional.pad(found.topk_logits_BK, (0, k - num_own), value=-torch.inf)
        ids_BK = self.placement.class_ids(found.topk_ids_BK)
        ids_BK = nn.functional.pad(ids_BK, (0, k - num_own), value=self.num_classes)
        logits_RBK, ids_RBK = self.world.stack(logits_BK), self.world.stack(ids_BK)
        return best_by_id(torch.cat([*logits_RBK], 1), torch.cat([*ids_RBK], 1), k)

    def _own(self, pairs: Pairs) -> Pairs:
        own_P = self.placement.holds(pairs.ids_P)
        return Pairs(pairs.rows_P[own_P], self.placement.rows(pairs.ids_P[own_P]))

    def _center_losses(self, hidden_BD: Tensor, pairs: Pairs) -> Tensor:
        """[B] losses of all rows with the nearest centers of all classes."""
        own_P, own = self.placement.holds(pairs.ids_P), self._own(pairs)
        cosines_BC = sub_center_cosines(hidden_BD, self.weight)
        labels_P = cosines_BC[tuple(own)]
        if self.score.has_margin:
            norms_B = torch.linalg.vector_norm(hidden_BD, dim=1)
            labels_P = self.score.of_labels(labels_P, norms_B, own.rows_P)
            cosines_BC = cosines_BC.index_put(tuple(own), labels_P)
        logits_BC = cosines_BC / self.temperature
        least_B1 = logits_BC.new_full((len(logits_BC), 1), torch.finfo(logits_BC.dtype).min)
        largest_B = torch.cat([logits_BC.detach(), least_B1], 1).amax(1)
        log_sum_B = (logits_BC - largest_B[:, None]).exp().sum(1).log()
        labels_P = labels_P.new_zeros(len(own_P)).masked_scatter(own_P, labels_P)
        largest_B, log_sum_B, labels_P = partition(largest_B, log_sum_B, labels_P, self.world)
        shares_P = target_shares(pairs, len(hidden_BD)).to(labels_P.dtype)
        terms_P = log_sum_B[pairs.rows_P] + (largest_B[pairs.rows_P] - labels_P / self.temperature)
        return torch.zeros_like(log_sum_B).index_add(0, pairs.rows_P, shares_P * terms_P)

    def _sampled_losses(self, hidden_BD: Tensor, pairs: Pairs) -> Tensor:
        """[B] losses of all rows, from candidates that are drawn alike in every process."""
        whole = self.options[0]
        assert isinstance(whole, SampledHead)
        ids_P = pairs.ids_P.to(self.generator.device)
        candidates = whole.sampler.draw(ids_P, whole.num_sampled, generator=self.generator)
        candidates = candidates.to(hidden_BD.device)
        own_S, own_P = self.placement.holds(candidates.class_ids), self.placement.holds(pairs.ids_P)
        drawn = replace(
            candidates,
            class_ids=self.placement.rows(candidates.class_ids[own_S]),
            log_expected_count=candidates.log_expected_count[own_S],
            label_log_expected_count=candidates.label_log_expected_count[own_P],
        )
        is_softmax, correction = self.normalizer == "softmax", whole.correction
        scored = score_candidates(
            *(hidden_BD, self.weight, self.bias, self._own(pairs), drawn, self.temperature, self.score),
            shift=correction if is_softmax or correction == "conditional" else "none",
            sparse=whole.sparse,
        )
        places = own_P.nonzero().squeeze(1)
        labels_P = scored.labels_P.new_zeros(len(own_P)).index_copy(0, places, scored.labels_P)
        if not is_softmax:
            negative_B = loss_of_negatives(scored, drawn, correction=correction)
            both = summed(torch.cat([negative_B, labels_P]), self.world)
            negative_B, labels_P = both[: len(negative_B)], both[len(negative_B) :]
            return negative_B.index_add(0, pairs.rows_P, -log_sigmoid(labels_P))
        own = linear_logsumexp(scored.hidden_BD, scored.weight_SD, scored.shift_S, scored.hits)
        found = partition(*own, labels_P, self.world)
        return softmax_of_candidates(*(*found, pairs), correction=correction, decoupled=whole.is_decoupled)

    def _drawn(self, shape: torch.Size) -> Tensor:
        """Own rows of the weights that one process would draw at once."""
        row = shape[1:].numel()
        at_once = max(1, DRAWN_AT_ONCE // row // 16) * 16
        own = torch.empty(len(self.placement), *shape[1:])
        # One for all: the allocator keeps what is freed between larger ones.
        room = torch.empty(min(2 * at_once, shape[0]), *shape[1:])
        filled = 0
        for start, stop in _blocks(shape[0], at_once):
            block = room[: stop - start].normal_(std=shape[-1] ** -0.5, generator=self.generator)
            first = (self.placement.shard - start) % self.placement.num_shards
            kept = block[first :: self.placement.num_shards]
            own[filled : filled + len(kept)] = kept
            filled += len(kept)
        return own

    def _follow_classes(self, num_classes: int, class_counts: Tensor | None) -> None:
        raise ConfigError("classes cannot change while they are split over processes; use the saved model.")


def _blocks(num_rows: int, at_once: int) -> Iterator[tuple[int, int]]:
    """Blocks of rows, of which torch draws the same numbers as of all rows: the last is not a small one."""
    starts = list(range(0, max(num_rows - at_once, 1), at_once))
    yield from zip(starts, [*starts[1:], num_rows], strict=True)


def _refuse(head: ExactHead | SampledHead | SubCenterHead) -> None:
    """Raises where a loss or a sampler needs the weights of all classes."""
    if isinstance(head, SampledHead):
        if head.sampler.follows_model:
            raise ConfigError(
                f"the sampler of head.sampler, {head.sampler!r}, reads the weights of all classes, which are "
                "split over processes; take 'frequency', or set distributed.shard_classes = false."
            )
    elif isinstance(head, ExactHead) and (not head.is_wide or head.skipped is not None):
        raise ConfigError(
            "over classes that are split over processes only the losses 'cross_entropy' and "
            "'binary_cross_entropy' are computed, without skip_mass; for another set "
            "distributed.shard_classes = false."
        )


def _dense_answers(
    logits_BC: Tensor, labels: Pairs, excluded: Pairs, k: int, label_logits: Tensor | None
) -> Found:
    """What :func:`~widemax.kernels.stream_classes` answers, from all logits of the own classes."""
    shift_B = logits_BC.amax(1)
    powers_BC = (logits_BC - shift_B[:, None]).double().exp()
    label_logits_P = logits_BC[tuple(labels)] if label_logits is None else label_logits
    ranked_BC = logits_BC.index_put(tuple(excluded), logits_BC.new_tensor(-torch.inf))
    of_rows_PC, label_P1 = ranked_BC[labels.rows_P], label_logits_P[:, None]
    is_earlier_PC = torch.arange(logits_BC.shape[1]) < labels.ids_P[:, None]
    before_PC = (of_rows_PC > label_P1) | ((of_rows_PC == label_P1) & is_earlier_PC)
    log_sum_B, log_square_sum_B = powers_BC.sum(1).log(), powers_BC.square().sum(1).log()
    return Found(
        *topk_by_id(ranked_BC, k),
        shift_B,
        log_sum_B.to(shift_B.dtype),
        log_square_sum_B.to(shift_B.dtype),
        label_logits_P,
        1 + before_PC.sum(1),
    )


def _nothing(hidden_BD: Tensor) -> Found:
    """The answers of a process that holds no class."""
    nothing_B0 = hidden_BD.new_zeros(len(hidden_BD), 0)
    none_B = hidden_BD.new_full((len(hidden_BD),), -torch.inf)
    ids = torch.zeros(0, dtype=torch.int64)
    least_B = torch.full_like(none_B, torch.finfo(none_B.dtype).min)
    return Found(nothing_B0, nothing_B0.long(), least_B, none_B, none_B, none_B[:0], ids)
