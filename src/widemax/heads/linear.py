"""Heads with one weight row a class. Shapes: B rows, D hidden, C classes, K kept, N asked, P labels."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from widemax.classes import Classes
from widemax.errors import ConfigError, ShapeError
from widemax.heads.answers import Answers, TopK
from widemax.heads.base import Dim, Head, Normalizer
from widemax.heads.dense import excluded_pairs
from widemax.heads.labels import SeveralLabels, no_pairs
from widemax.heads.resize import FollowsRows, NewRows, replace_rows
from widemax.heads.scores import Score, build_score
from widemax.kernels import Found, Pairs, Powers, linear_logits, stream_classes
from widemax.numerics import log_sigmoid
from widemax.numerics.ids import checked_ids
from widemax.options import AtLeast1, checked
from widemax.registry import Spec


class LinearHead(Head):
    """Logits are (score(h, W) + bias) / temperature; questions are answered exactly, whatever the training.

    Weights start normal with variance 1/D. Biases start where they alone predict the frequencies of the
    classes, if these are given, so that training does not begin by learning them.

    Args:
        num_classes: C, or ``Classes`` with their counts.
        dim: D, the length of a hidden vector.
        weight: [C, D] a parameter to share, such as an embedding's ("tied weights"); a new one without. Or a
            tower: a module, such as :class:`~widemax.encoders.ClassTower`, that makes the weights of classes
            [N, D] of rows of their own [N, D], which begin at zero, and their ids [N], or None for all.
        normalizer: what makes logits probabilities: "softmax" over all classes, or a "sigmoid" a class.
        temperature: divides the logits.
        bias: whether classes have biases.
        score: how hidden vectors and class weights are compared: "dot", "cosine", or one with a margin.

    Raises:
        ShapeError: a shared weight of another shape.
    """

    has_weight_rows = True

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        weight: nn.Parameter | nn.Module | None = None,
        *,
        normalizer: Normalizer,
        temperature: float,
        bias: bool,
        score: Spec | type[Score] | Score,
    ) -> None:
        classes = Classes.of(num_classes)
        num_classes = classes.num
        super().__init__(num_classes, dim)
        self.normalizer = normalizer
        self.temperature = temperature
        self.score = build_score(score)
        tower = weight if isinstance(weight, nn.Module) else None
        if weight is None:
            weight = self.normal(num_classes, dim)
        elif isinstance(weight, nn.Module):
            weight = nn.Parameter(torch.zeros(num_classes, dim))
        elif weight.shape != (num_classes, dim):
            raise ShapeError(
                f"weight must be [{num_classes}, {dim}], one row a class; got shape {tuple(weight.shape)}. "
                "Make num_classes and dim those of the weight to share."
            )
        self.weight = weight
        if tower is not None:
            parametrize.register_parametrization(self, "weight", tower, unsafe=True)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        if self.bias is not None and classes.counts is not None and not self.bias.is_meta:
            with torch.no_grad():
                self.bias.copy_(temperature * prior_logits(classes, normalizer))

    @property
    def tower(self) -> nn.Module | None:
        """The module that makes the class weights; None where they are parameters."""
        is_made = parametrize.is_parametrized(self, "weight")
        return self.get_submodule("parametrizations.weight.0") if is_made else None

    @property
    def own_weight(self) -> nn.Parameter:
        """[C, D] the parameter that holds the class weights, or what a tower makes them of."""
        if self.tower is None:
            return self.weight
        return self.get_parameter("parametrizations.weight.original")

    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        scaled_BD, bias_C = self.answering(hidden)
        if class_ids is None:
            return nn.functional.linear(scaled_BD, self.score.scaled(self.weight), bias_C)
        class_ids = checked_ids(class_ids, self.num_classes, "class_ids", hidden)
        bias_N = None if bias_C is None else bias_C[class_ids]
        weight_ND = self.score.scaled(self.weight[class_ids.flatten()])
        if class_ids.ndim == 1:
            return linear_logits(scaled_BD, weight_ND, bias_N)
        logits_BN = torch.einsum("bd,bnd->bn", scaled_BD, weight_ND.view(*class_ids.shape, self.dim))
        return logits_BN if bias_N is None else logits_BN + bias_N

    @torch.no_grad()
    def log_partition(self, hidden: Tensor) -> Tensor:
        found = self._sums(hidden)
        return found.shift_B + found.log_sum_B

    @torch.no_grad()
    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        logits_BN = self.logits(hidden, class_ids)
        if self.normalizer == "sigmoid":
            return log_sigmoid(logits_BN)
        return self._sums(hidden).log_probs(logits_BN)

    def best_classes(self, hidden: Tensor, k: int, exclude: SeveralLabels | None) -> TopK:
        powers: Powers = 1 if self.normalizer == "softmax" else 0
        return self._topk(self.stream(hidden, no_pairs(hidden.device), k=k, exclude=exclude, powers=powers))

    def answers_about(self, hidden: Tensor, labels: Pairs, k: int, exclude: SeveralLabels | None) -> Answers:
        powers: Powers = 2 if self.normalizer == "softmax" else 0
        found = self.stream(hidden, labels, k=k, exclude=exclude, powers=powers)
        return Answers(
            self._topk(found),
            found.shift_B + found.log_sum_B,
            (found.log_square_sum_B - 2 * found.log_sum_B).exp(),
            found.label_logits_P,
            self._normalized(found, found.label_logits_P, labels.rows_P),
            found.label_ranks_P,
        )

    def embed(self, class_ids: Tensor) -> Tensor:
        """[..., D] the weights of classes [...], for those that are inputs too ("tied weights")."""
        return nn.functional.embedding(class_ids, self.weight)

    @torch.no_grad()
    def scored_rows(self, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Class weights [N, D] and biases [N] as training scores them: for samplers that follow the model."""
        class_ids = class_ids.to(self.own_weight.device)
        weight_ND = self.own_weight[class_ids]
        if self.tower is not None:
            weight_ND = self.tower(weight_ND, class_ids)
        weight_ND = self.score.scaled(weight_ND)
        if self.bias is None:
            return weight_ND, weight_ND.new_zeros(len(class_ids))
        return weight_ND, self.bias[class_ids] / self.temperature

    @torch.no_grad()
    def mean_logits(self, hidden: Tensor, shares: Tensor) -> Tensor:
        """[B] Σ_j q_j s_bj over all classes, for ``shares`` q [C] that sum to 1."""
        scaled_BD, bias_C = self.answering(hidden)
        shares_C = shares.to(self.weight.dtype)
        mean_B = scaled_BD @ (self.score.scaled(self.weight).T @ shares_C)
        return mean_B if bias_C is None else mean_B + bias_C @ shares_C

    @partial(checked, of="head.extend")
    @torch.no_grad()
    def extend(
        self,
        num_new: AtLeast1,
        *,
        init: NewRows | Tensor = "normal",
        class_counts: Tensor | None = None,
        optimizer: FollowsRows | None = None,
    ) -> None:
        """Add classes after the present ones, in the same parameters; all other rows stay as they are.

        New biases are the smallest there is: a class without rows is at most as frequent as the rarest one.

        Args:
            num_new: how many classes.
            init: weights of the new classes: "normal" as at the start of training, the "mean" of all classes,
                "zeros", or [num_new, D] rows.
            class_counts: [C + num_new] frequencies for the sampler, where it needs them.
            optimizer: keeps its state of the old classes; pass the one that trains this head.

        Raises:
            OptionError: ``num_new`` that is no whole number of at least 1.
            ShapeError: rows of another shape.
            ConfigError: class counts that the sampler needs are missing.

        Example:
            >>> from widemax.heads import ExactHead
            >>> head = ExactHead(3, 2)
            >>> head.extend(2, init="zeros")
            >>> head.logits(torch.ones(1, 2)).shape
            torch.Size([1, 5])
        """
        new_rows = self._new_rows(num_new, init)
        self._replace_classes(torch.arange(self.num_classes), new_rows, class_counts, optimizer)

    @partial(checked, of="head.remove")
    @torch.no_grad()
    def remove(
        self,
        class_ids: Tensor,
        *,
        class_counts: Tensor | None = None,
        optimizer: FollowsRows | None = None,
    ) -> Tensor:
        """Remove classes; the others close up, in their order.

        Args:
            class_ids: [N] the classes that go.
            class_counts: [C − N] frequencies for the sampler, where it needs them.
            optimizer: keeps its state of the other classes; pass the one that trains this head.

        Returns:
            [C − N] for each class that stays, the id it had.

        Raises:
            ArgumentError: class ids that are no vector of whole numbers.
            LabelError: a class id outside [0, C).
            ConfigError: no class would stay, or class counts that the sampler needs are missing.

        Example:
            >>> from widemax.heads import ExactHead
            >>> ExactHead(3, 2).remove(torch.tensor([1]))
            tensor([0, 2])
        """
        class_ids = checked_ids(class_ids, self.num_classes, "class_ids").cpu()
        stays_C = torch.ones(self.num_classes, dtype=torch.bool)
        stays_C[class_ids] = False
        kept_rows = stays_C.nonzero().squeeze(1)
        if not len(kept_rows):
            raise ConfigError("class_ids must leave a class; got all of them. Make a new head instead.")
        self._replace_classes(kept_rows, self.weight.data[:0], class_counts, optimizer)
        return kept_rows

    def _new_rows(self, num_new: int, init: NewRows | Tensor) -> Tensor:
        shape = num_new, self.dim
        if isinstance(init, Tensor):
            if init.shape != shape or init.is_complex():
                raise ShapeError(
                    f"init must be [{num_new}, {self.dim}] real numbers, one row a new class; got "
                    f"{tuple(init.shape)} of {init.dtype}."
                )
            return init.to(self.weight)
        if init == "mean":
            return self.weight.data.mean(0).expand(shape)
        return self.weight.new_zeros(shape) if init == "zeros" else self.normal(*shape).to(self.weight)

    def _replace_classes(
        self,
        kept_rows: Tensor,
        new_rows: Tensor,
        class_counts: Tensor | None,
        optimizer: FollowsRows | None,
    ) -> None:
        if self.tower is not None:
            raise ConfigError(
                "classes cannot change while a tower makes their weights; give head.weight to a head without "
                "one, or train and use Model.extend."
            )
        num_classes = len(kept_rows) + len(new_rows)
        self._follow_classes(num_classes, class_counts)
        replace_rows(self.weight, kept_rows, new_rows, optimizer)
        if self.bias is not None:
            replace_rows(self.bias, kept_rows, self.bias.data.min().expand(len(new_rows)), optimizer)
        self.num_classes = num_classes

    def _follow_classes(self, num_classes: int, class_counts: Tensor | None) -> None:
        """Change what beside the parameters depends on the classes; before anything else, as it may raise."""
        Classes(num_classes, class_counts)

    def answering(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Hidden vectors and biases divided by the temperatures, which costs less than dividing logits."""
        temperature = self.temperature * self.calibration_temperature
        return self.score.scaled(hidden) / temperature, None if self.bias is None else self.bias / temperature

    def stream(
        self, hidden: Tensor, labels: Pairs, *, k: int, exclude: SeveralLabels | None, powers: Powers
    ) -> Found:
        """What the answers about all classes are made of; excluded classes that are labels take part."""
        scaled_BD, bias_C = self.answering(hidden)
        excluded = excluded_pairs(exclude, hidden, labels, self.num_classes)
        weight_CD = self.score.scaled(self.weight)
        return stream_classes(scaled_BD, weight_CD, bias_C, labels, excluded, k=k, powers=powers)

    def _sums(self, hidden: Tensor) -> Found:
        return self.stream(hidden, no_pairs(hidden.device), k=0, exclude=None, powers=1)

    def _topk(self, found: Found) -> TopK:
        log_probs_BK = self._normalized(found, found.topk_logits_BK)
        return TopK(found.topk_ids_BK, found.topk_logits_BK, log_probs_BK)

    def _normalized(self, found: Found, logits: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        return log_sigmoid(logits) if self.normalizer == "sigmoid" else found.log_probs(logits, rows)


def prior_logits(classes: Classes, normalizer: Normalizer, ids: Tensor | None = None) -> Tensor:
    """Log frequencies, or log odds for yes-or-no questions, with one more row a class than was seen.

    Args:
        classes: with their counts.
        normalizer: of the head.
        ids: [N] of which classes; of all unless given.
    """
    assert classes.counts is not None
    counts_N = (classes.counts if ids is None else classes.counts[ids]).double()
    if normalizer == "softmax":
        return torch.log1p(counts_N) - torch.log(classes.counts.sum(dtype=torch.float64) + classes.num)
    total = classes.counts.sum(dtype=torch.float64) if classes.num_rows is None else classes.num_rows
    return torch.log1p(counts_N) - torch.log1p(total - counts_N)
