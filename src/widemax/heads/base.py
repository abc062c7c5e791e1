"""What every head answers, and the registry of heads.

Shapes: B rows, D hidden, C classes, N asked, P labels.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from widemax.classes import MOVED, Classes
from widemax.errors import ArgumentError, OptionError, ShapeError, WidemaxError
from widemax.heads.answers import Answers, TopK
from widemax.heads.labels import Labels, SeveralLabels, label_pairs, no_pairs
from widemax.kernels import Pairs, topk_by_id
from widemax.losses.base import Reduction, check_labels, reduce_loss
from widemax.numerics import log_sigmoid
from widemax.numerics.arrays import widened_tensor
from widemax.options import AtLeast1, Options, checked
from widemax.registry import Described, Registry

Normalizer = Literal["softmax", "sigmoid"]
Dim = AtLeast1
"""D, the length of a hidden vector."""
METHODS = "forward", "logits", "log_partition", "log_probs", "topk", "answer", "extend", "remove"
"""What users call on a head."""
Method = TypeVar("Method", bound=Callable[..., Any])


def asked(method: Method) -> Method:
    """A method of a head, whose hidden vectors, the first argument, must be as long as the head's.

    What else is wrong with a call is looked for once it has failed, so that a right one costs nothing more.
    """
    of = "head" if method.__name__ == "forward" else f"head.{method.__name__}"
    options = Options(method, of=of)
    has_hidden = "hidden" in inspect.signature(method).parameters

    @wraps(method)
    def call(self: "Head", *args: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling():
            return method(self, *args, **keywords)
        try:
            if has_hidden:
                hidden = args[0] if args else keywords["hidden"]
                shape = hidden.shape
                if len(shape) != 2 or shape[1] != self.dim:
                    raise ShapeError(
                        f"hidden must be [B, {self.dim}], rows as long as the class weights; "
                        f"got shape {tuple(shape)}."
                    )
                if hidden.is_meta:
                    # torch may compute with it and numbers, and answers with neither.
                    self._refuse_strangers({"hidden": hidden})
            return method(self, *args, **keywords)
        except Exception as error:
            if isinstance(error, WidemaxError) and not isinstance(error, OptionError):
                raise
            options.check_call((self, *args), keywords)
            self._refuse_strangers(inspect.signature(method).bind(self, *args, **keywords).arguments)
            if any(parameter.is_meta for parameter in self.parameters()):
                raise ArgumentError(
                    f"{of} needs numbers, which a head on the device meta has not. Fill it first, as with "
                    "head.to_empty(device='cpu') and load_state_dict."
                ) from None
            raise

    return call  # type: ignore[return-value]


class Head(Described, nn.Module, ABC):
    """Turns hidden vectors into a training loss, and into exact answers about all classes.

    The buffer ``calibration_temperature`` (1 until fitted) divides the logits of every answer, never those
    of the loss.

    Building a head leaves torch's global randomness as it is. The state that it is in decides the first
    weights and the randomness of training: after the same ``torch.manual_seed`` they are the same, and two
    heads built one right after the other are alike.

    A member states its row losses, or all of ``forward``, and its answers; the rest follows.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.

    Attributes:
        learns_by_gradients: whether gradients of its loss train it.
        has_weight_rows: whether it is a :class:`~widemax.heads.LinearHead`, with one weight row a class.
        training_options: the options that training chooses for a softmax where a config names none.
        optimizer: the optimizer that suits it, with its learning rate, where a config names none; None where
            that of the encoder does.
        learned_sizes: the tensors of its state whose length is learned; a state of another length fills them.
        waits: what a training step waits for on an accelerator, since sizes depend on numbers there: "unique"
            (which classes differ), "repeat" (how often), "select" and "count" (how many), "read" (a number).
        normalizer: what makes logits probabilities: "softmax" over all classes, or a "sigmoid" a class.
        generator: the randomness of the first weights, then of training.
    """

    learns_by_gradients: ClassVar[bool] = True
    has_weight_rows: ClassVar[bool] = False
    training_options: ClassVar[Mapping[str, Any]] = {}
    optimizer: ClassVar[tuple[str, float] | None] = None
    learned_sizes: ClassVar[frozenset[str]] = frozenset()
    waits: ClassVar[frozenset[str]] = frozenset()
    normalizer: Normalizer
    calibration_temperature: Tensor

    def __init_subclass__(cls) -> None:
        """Hold calls to the head and to their signature, whoever wrote the member."""
        super().__init_subclass__()
        for name in METHODS:
            if name in vars(cls):
                setattr(cls, name, asked(vars(cls)[name]))

    def __init__(self, num_classes: int | Classes, dim: int) -> None:
        super().__init__()
        self.num_classes = Classes.of(num_classes).num
        self.dim = dim
        self.register_buffer("calibration_temperature", torch.ones(()))
        self.generator = torch.Generator(device="cpu")
        self.seed(_drawn_seed(torch.default_generator.clone_state()))

    def extra_repr(self) -> str:
        return ", ".join([f"{self.num_classes} classes", f"dim {self.dim}", *self.described_options()])

    @property
    def num_parameters(self) -> int:
        """How many numbers it has learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def adds_features(self) -> bool:
        """Whether the logit of a row of length 1 is that of no features and what each of its own adds."""
        return False

    def step_factors(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Each parameter, and what its learning rate is multiplied by."""
        return ((parameter, 1.0) for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        """Where it answers, which is where its tensors are."""
        return self.calibration_temperature.device

    def seed(self, seed: int) -> None:
        """Start the randomness of training anew, on a GPU where the head is on one (``"cuda"``)."""
        if self.device.type == "cuda":
            self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seed)

    def laws(self) -> Iterator[tuple[bool, str]]:
        """What must hold among the tensors of a state, and whether it does; the first ones first."""
        yield bool(self.calibration_temperature > 0), "a calibration temperature above 0"

    def training_state(self) -> dict[str, Tensor]:
        """What training goes on from beside the parameters, for a checkpoint."""
        return {"generator": self.generator.get_state()}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`training_state`."""
        self.generator.set_state(state["generator"])

    def normal(self, *shape: int, std: float | None = None) -> nn.Parameter:
        """A parameter drawn from the head's generator; without ``std`` of variance 1 / its last axis."""
        weight, generator = torch.empty(shape), self.generator
        if weight.is_meta:  # of which nothing is drawn, though torch would load its compiler for it
            return nn.Parameter(weight)
        if weight.device.type != "cpu":
            generator = torch.Generator(weight.device).manual_seed(_drawn_seed(generator))
        return nn.Parameter(weight.normal_(std=std or shape[-1] ** -0.5, generator=generator))

    @asked
    def forward(
        self,
        hidden: Tensor,
        labels: Labels,
        *,
        sample_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """The training loss in nats, in float32 at least.

        Rows to be ignored, such as padding, are left out: ``head(hidden[kept], labels[kept])``.

        Args:
            hidden: [B, D] hidden vectors.
            labels: [B] class ids, or several a row.
            sample_weight: [B] weight of each row.
            reduction: "mean", "sum" or "none", as in :func:`widemax.losses.reduce_loss`.

        Raises:
            LabelError: a class id outside [0, C); checked on CPU only, as it would stall an accelerator, and
                not in a compiled function.
            OptionError: an argument that does not exist or has a wrong value, such as a negative weight.
            ShapeError: hidden vectors of another length; not one label, or list of labels, a row; labels that
                are no whole numbers; not one weight a row.
        """
        loss_B = self.row_losses(hidden, labels)
        return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)

    @abstractmethod
    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        """[B] training losses in nats, in float32 at least."""

    @abstractmethod
    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        """Logits of all classes [B, C], of the classes ``class_ids`` [N] for every row [B, N], or of each
        row's own classes ``class_ids`` [B, N]; they have a gradient, which is dense.

        They are divided by ``calibration_temperature``, and take the memory of the result at least.

        Raises:
            ArgumentError: class ids of another shape, or that are no whole numbers.
            LabelError: a class id outside [0, C).
            ShapeError: hidden vectors of another length.
        """

    @abstractmethod
    def log_partition(self, hidden: Tensor) -> Tensor:
        """[B] log Σ_j exp(s_bj) over all classes."""

    @abstractmethod
    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        """Log-probabilities in nats of ``class_ids``, [N] or [B, N] as in :meth:`logits`."""

    @asked
    @partial(checked, of="head.topk")
    @torch.no_grad()
    def topk(self, hidden: Tensor, k: AtLeast1, *, exclude: SeveralLabels | None = None) -> TopK:
        """The k best classes of each row (all classes if k is larger), equal logits by ascending class id.

        Args:
            hidden: [B, D] hidden vectors.
            k: how many classes.
            exclude: classes of each row that may not be ranked; ids below 0 are passed over. Probabilities
                are still taken among all classes.

        Raises:
            LabelError: an excluded id of C or more.
            OptionError: a k that is no whole number of at least 1.
        """
        k = min(k, self.num_classes)
        if exclude is None and (torch.compiler.is_compiling() or hidden.is_meta):
            return self._traced_topk(hidden, k)
        return self.best_classes(hidden, k, exclude)

    def best_classes(self, hidden: Tensor, k: int, exclude: SeveralLabels | None) -> TopK:
        """What :meth:`topk` answers, for a k of at most C."""
        return self.answers_about(hidden, no_pairs(hidden.device), k, exclude).topk

    @asked
    @partial(checked, of="head.answer")
    @torch.no_grad()
    def answer(
        self, hidden: Tensor, labels: Labels, *, k: AtLeast1, exclude: SeveralLabels | None = None
    ) -> Answers:
        """Top k, log-partition, and every label's logit, log-probability and rank, in one pass.

        Args:
            hidden: [B, D] hidden vectors.
            labels: [B] class ids or several a row; −1 stands for a class never seen in training.
            k: how many classes to list.
            exclude: as in :meth:`topk`; a label of the row is ranked even if it is excluded.

        Raises:
            LabelError: a label outside [−1, C), or an excluded id of C or more.
            OptionError: a k that is no whole number of at least 1.
        """
        pairs = label_pairs(labels, hidden)
        known_P = pairs.ids_P.masked_fill(pairs.ids_P == -1, 0)
        check_labels(known_P, self.num_classes, rows=pairs.rows_P)
        return self.answers_about(hidden, pairs, min(k, self.num_classes), exclude)

    @abstractmethod
    def answers_about(self, hidden: Tensor, labels: Pairs, k: int, exclude: SeveralLabels | None) -> Answers:
        """What :meth:`answer` answers, for a k of at most C."""

    @property
    def operations(self) -> int:
        """Multiplications of the logit of one class."""
        return self.dim

    def _refuse_strangers(self, arguments: Mapping[str, Any]) -> None:
        """Refuse tensors that torch cannot compute with beside the head's own."""
        for name, value in arguments.items():
            given = value.ids_P if isinstance(value, SeveralLabels) else value
            for what in ("device", "dtype") if name == "hidden" else ("device",):
                tensors: list[Tensor] = [*self.parameters()] or [self.calibration_temperature]
                own = sorted({str(getattr(tensor, what)) for tensor in tensors})
                if isinstance(given, Tensor) and str(getattr(given, what)) not in own:
                    raise ArgumentError(
                        f"{name} must have the {what} of the head, {' or '.join(own)}; got "
                        f"{getattr(given, what)}. Convert one of them with .to(...)."
                    )

    def _traced_topk(self, hidden: Tensor, k: int) -> TopK:
        """Top k without a step that depends on values, for torch.compile and torch.export."""
        logits_BC = self.logits(hidden)
        logits_BK, ids_BK = topk_by_id(logits_BC, k)
        logits_BK = widened_tensor(logits_BK)
        if self.normalizer == "sigmoid":
            return TopK(ids_BK, logits_BK, log_sigmoid(logits_BK))
        return TopK(ids_BK, logits_BK, widened_tensor(logits_BC).log_softmax(1).gather(1, ids_BK))


class CountingHead(Head):
    """A head that counts rows in one pass, of which held-out rows then choose what to make.

    Its hidden vectors are features. One that learns by gradients too does so in the passes after the first.

    Attributes:
        separates: whether it weighs each feature beside the others, for which an encoder has its usual ones,
            rather than alone, for which it has ``counted_options``.
    """

    learns_by_gradients = False
    separates: ClassVar[bool] = False

    @abstractmethod
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

    @abstractmethod
    def finish(
        self,
        held_out: Tensor | None = None,
        labels: Labels | None = None,
        *,
        exclude: SeveralLabels | None = None,
    ) -> None:
        """Makes the weights of all rows counted so far; more may follow, and another ``finish``.

        Args:
            held_out: [B, F] features of rows that were not counted, which choose; without, everything stays
                as they chose before.
            labels: their labels; −1 stands for a class never seen in training.
            exclude: classes of each of these rows that may not be ranked.
        """

    def begin(
        self,
        held_out: Tensor,
        labels: Labels,
        *,
        exclude: SeveralLabels | None = None,
        classes: Tensor | None = None,
    ) -> None:
        """As :meth:`finish`, where gradients go on to train it: nothing that they train is chosen yet.

        Args:
            classes: [C, F] the features of a row that holds a class alone, where classes stand in rows too,
                such as items in histories, and only before those that follow them.
        """
        self.finish(held_out, labels, exclude=exclude)

    def told(self) -> str:
        """What held-out rows have made of it, as a sentence; empty where there is nothing to say."""
        return ""


def _drawn_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), device=generator.device, generator=generator))


heads: Registry[type[Head]] = Registry(
    "head",
    "widemax.heads",
    moved={**MOVED, "ignore_index": "leave such rows out: head(hidden[kept], labels[kept])."},
)
