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
    """One class: how often training saw it, how often it was a label, was found, was predicted and was right.

    What counts as found and predicted, ``Group`` tells.
    """

    label: str
    num_train: int
    num_labels: int
    num_found: int
    num_predicted: int
    num_right: int

    @property
    def precision(self) -> float:
        """The share of its predictions that are right; 0 without any."""
        return self.num_right / self.num_predicted if self.num_predicted else 0.0

    @property
    def recall(self) -> float:
        """The share of its labels that are predicted; 0 without any."""
        return self.num_right / self.num_labels if self.num_labels else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.num_right / max(1, self.num_labels + self.num_predicted)


@dataclass(frozen=True)
class Mistake:
    """One wrong row: its number, or where it stands, its text if known, and what the model was sure of."""

    row: int | str
    text: str
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Findings:
    """Everything a ``ReportCollector`` found.

    ``confusions_are_lower_bounds`` says that there were too many different pairs to count each exactly.
    ``classes`` are those that were a label or were predicted. ``matrix`` counts rows, a line a label and a
    column a prediction, of the classes ``names``, where there are few. ``reliability``, ``confusions``,
    ``mistakes`` and ``matrix`` are empty where rows have several labels.
    """

    task: Task
    groups: tuple[Group, ...]
    worst_classes: tuple[ClassResult, ...]
    classes: tuple[ClassResult, ...]
    reliability: tuple[Reliability, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    confusions_are_lower_bounds: bool = False
    mistakes: tuple[Mistake, ...] = ()
    names: tuple[str, ...] = ()
    matrix: tuple[tuple[int, ...], ...] = ()
