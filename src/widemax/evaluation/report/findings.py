"""What the report shows about the evaluated rows: small, plain data with labels already spelled out."""

from dataclasses import dataclass

from widemax.task import Task


@dataclass(frozen=True)
class Group:
    """The classes that training saw between ``low`` and ``high`` times (both included).

    ``num_found`` of the ``num_labels`` evaluated labels of these classes were found: ranked first where a row
    has one label, among the first 10 otherwise. ``num_right`` of the ``num_predicted`` predictions of these
    classes were right, counting the first prediction of a row with one label and the first 5 otherwise.
    """

    low: int
    high: int
    num_classes: int
    num_labels: int
    num_found: int
    num_predicted: int
    num_right: int


@dataclass(frozen=True)
class Reliability:
    """One bin of confidence: rows, mean confidence and accuracy of them."""

    low: float
    high: float
    num_rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Confusion:
    """A label, what was predicted instead, and how often."""

    label: str
    predicted: str
    num_rows: int


@dataclass(frozen=True)
class ClassResult:
    """One class: how often training saw it, how often it was a label, and how often it was found."""

    label: str
    num_train: int
    num_labels: int
    num_found: int


@dataclass(frozen=True)
class Mistake:
    """One wrong row: its number, its text where one was given, and what the model was sure of."""

    row: int
    text: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Findings:
    """Everything a ``ReportCollector`` found.

    ``confusions_are_lower_bounds`` says that there were too many different pairs to count each exactly.
    ``reliability``, ``confusions`` and ``mistakes`` are empty where rows have several labels.
    """

    task: Task
    groups: tuple[Group, ...]
    worst_classes: tuple[ClassResult, ...]
    reliability: tuple[Reliability, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    confusions_are_lower_bounds: bool = False
    mistakes: tuple[Mistake, ...] = ()
