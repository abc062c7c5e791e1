"""What a sampler promises, and the registry of samplers. Shapes: S sampled, P labels, B rows, D hidden."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from widemax.classes import MOVED, Classes
from widemax.errors import ArgumentError, ConfigError, OptionError, ShapeError, UsageError
from widemax.numerics.ids import checked_ids
from widemax.numerics.order import ascending
from widemax.options import AtLeast1, checked
from widemax.registry import Described, Registry, Spec


@checked
@dataclass(frozen=True)
class Candidates:
    """One draw, shared by all rows of a batch.

    Attributes:
        class_ids: [S] int64 class ids in ascending order; a class that counts twice stands twice.
        log_expected_count: [S] float64, log E[times this id stands in a draw], exact for what the
            sampler does.
        label_log_expected_count: [P] the same for each label, drawn or not.

    Raises:
        ArgumentError, ShapeError: no vectors of one device, or not one count a class id.
        UsageError: class ids that do not ascend, among which a label would not be found.
    """

    class_ids: Tensor
    log_expected_count: Tensor
    label_log_expected_count: Tensor

    def __post_init__(self) -> None:
        for name, tensor in vars(self).items():
            if tensor.ndim != 1 or tensor.is_complex() or tensor.device != self.class_ids.device:
                raise ArgumentError(
                    f"{name} of Candidates must be a vector of real numbers on the device of class_ids, "
                    f"{self.class_ids.device}; got shape {tuple(tensor.shape)} of {tensor.dtype} on "
                    f"{tensor.device}."
                )
        if len(self.class_ids) != len(self.log_expected_count):
            numbers = len(self.class_ids), len(self.log_expected_count)
            raise ShapeError(
                f"class_ids and log_expected_count must be as many; got {numbers[0]} and {numbers[1]}."
            )
        # A look at them would stall an accelerator.
        if self.class_ids.is_cpu and (self.class_ids[1:] < self.class_ids[:-1]).any():
            raise UsageError(
                "class_ids of Candidates must ascend; got them in another order. Sort them, and "
                "log_expected_count with them: order = class_ids.argsort()."
            )

    def to(self, device: torch.device) -> "Candidates":
        """The same draw on another device."""
        if device == self.class_ids.device:
            return self
        parts = self.class_ids, self.log_expected_count, self.label_log_expected_count
        return Candidates(*(part.to(device) for part in parts))


class Proposal(NamedTuple):
    """What a member drew, and its statement of how often any class was to be expected.

    Attributes:
        ids_S: int64 class ids in any order.
        log_expected_count: class ids of any shape → float64 log expected counts of the same shape.
    """

    ids_S: Tensor
    log_expected_count: Callable[[Tensor], Tensor]


@checked
@dataclass(frozen=True)
class Query:
    """What a batch asks of the classes, for samplers that follow the model; no gradient flows through it.

    Attributes:
        hidden_BD: hidden vectors as the head scores them: divided by the temperature, of unit length where
            scores are cosines.
        rows: class ids [N] → weight rows [N, D] and biases [N]; a logit is hidden · row + bias.
    """

    hidden_BD: Tensor
    rows: Callable[[Tensor], tuple[Tensor, Tensor]]


class Sampler(Described, ABC):
    """A proposal distribution over classes: one draw and one statement of what was drawn.

    The statement decides whether training is right. For every class y that is not a label of the row,
    E[times y stands in the draw / exp(log_expected_count(y))] = 1; where expected counts do not depend on the
    draw, that says they are the mean counts.

    Args:
        num_classes: candidates come from [0, num_classes); some members need the counts of ``Classes``.

    Attributes:
        approximation: why expected counts are not exact, or None if they are.
        uses_labels: whether candidates come from the labels of the batch. Expected counts are then those that
            a row sees: its own label is there in any case, and only other labels are drawn.
        follows_model: whether a draw asks for hidden vectors and class weights, by a query.
        waits: what a draw waits for on an accelerator, in the words of :class:`widemax.heads.Head`.
    """

    approximation: str | None = None
    uses_labels: bool = False
    follows_model: bool = False
    waits: ClassVar[frozenset[str]] = frozenset({"unique"})

    def __init__(self, num_classes: int | Classes) -> None:
        self.num_classes = Classes.of(num_classes).num

    def __repr__(self) -> str:
        parts = [f"{self.num_classes} classes", *self.described_options()]
        return f"{type(self).__name__}({', '.join(parts)})"

    @abstractmethod
    def propose(
        self, labels: Tensor, num_sampled: int, *, generator: torch.Generator, query: Query | None = None
    ) -> Proposal:
        """One draw for a batch; the arguments are those of :meth:`draw`."""

    @checked
    def draw(
        self,
        labels: Tensor,
        num_sampled: AtLeast1,
        *,
        generator: torch.Generator,
        query: Query | None = None,
    ) -> Candidates:
        """Candidates for a batch.

        Args:
            labels: [P] the class ids of the batch's labels, on the generator's device.
            num_sampled: the number of draws, at least 1.
            generator: the source of randomness; its device is where the draw happens.
            query: the hidden vectors and class weights, for members that follow the model.

        Raises:
            ArgumentError: labels that are no vector of whole numbers.
            LabelError: a label outside [0, num_classes).
        """
        labels = checked_ids(labels, self.num_classes, "labels")
        ids_S, log_expected_count = self.propose(labels, num_sampled, generator=generator, query=query)
        ids_S = ascending(ids_S)
        return Candidates(ids_S, log_expected_count(ids_S), log_expected_count(labels))

    def state(self) -> dict[str, Tensor]:
        """What the member has learned since it was made, for a checkpoint; nothing for most."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go back to a state; the inverse of :meth:`state`."""
        assert not state


def needed(query: Query | None, name: str) -> Query:
    """The query, which a sampler that follows the model cannot do without."""
    if query is None:
        raise UsageError(
            f"the sampler {name!r} follows the model, so draw() needs query=Query(hidden_BD, rows). "
            "A sampled head passes it; pass it yourself, or use the sampler 'frequency'."
        )
    if not len(query.hidden_BD):
        raise UsageError(f"the sampler {name!r} follows the rows, so the query must have one; got none.")
    return query


def needed_counts(num_classes: int | Classes, name: str) -> Tensor:
    """The class counts, which a sampler that follows the data cannot do without."""
    counts_C = Classes.of(num_classes).counts
    if counts_C is None:
        raise ConfigError(
            f"the sampler {name!r} needs class counts; pass Classes(num_classes, counts) in place of "
            "num_classes (class_counts where classes are added or removed), or use the sampler 'uniform' (or "
            "'log_uniform' when class ids are sorted by frequency)."
        )
    return counts_C


SamplerSpec = Spec | type[Sampler] | Sampler
"""A sampler as options name it: its name, a table of its kind and options, its class, or itself."""

samplers: Registry[type[Sampler]] = Registry("sampler", "widemax.samplers", moved=MOVED)


@checked
def build_sampler(spec: SamplerSpec, num_classes: int | Classes) -> Sampler:
    """A sampler from its name, its class, or a table of its kind and options; a sampler is itself.

    Raises:
        ConfigError: a sampler of another number of classes.
        OptionError: something else, or a wrong option.
        UnknownNameError: no such sampler.

    Example:
        >>> build_sampler({"kind": "uniform", "duplicates": "keep"}, 10).duplicates
        'keep'
    """
    sampler = samplers.build(spec, num_classes)
    if not isinstance(sampler, Sampler):
        raise OptionError(f"a sampler must be a Sampler, its class, its name or a table; got {spec!r}.")
    wanted = Classes.of(num_classes).num
    if sampler.num_classes != wanted:
        raise ConfigError(f"the sampler must draw from the {wanted} classes; it has {sampler.num_classes}.")
    return sampler
