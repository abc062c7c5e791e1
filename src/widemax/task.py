"""What a model is asked for: one right class a row, several, what comes next, or what a system gives."""

from enum import StrEnum

from widemax.errors import UsageError, did_you_mean


class Task(StrEnum):
    """The word that configs, manifests and the command line use, and what follows from it.

    Raises:
        UsageError: another word.

    Example:
        >>> Task("several").loss, Task.NEXT.excludes_seen
        ('binary_cross_entropy', True)
    """

    ONE = "one"
    SEVERAL = "several"
    NEXT = "next"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise UsageError(f"unknown task {value!r}; {did_you_mean(str(value), [task.value for task in cls])}")

    @property
    def one_label(self) -> bool:
        """Whether every row has exactly one right class."""
        return self is Task.ONE

    @property
    def excludes_seen(self) -> bool:
        """Whether what already stands in a row's history is not predicted again."""
        return self is Task.NEXT

    @property
    def loss(self) -> str:
        """The loss that is trained where a config names none."""
        return "binary_cross_entropy" if self is Task.SEVERAL else "cross_entropy"

    @property
    def metric(self) -> str:
        """The metric that chooses the best epoch where a config names none."""
        return {Task.ONE: "mean_reciprocal_rank", Task.SEVERAL: "ndcg@5", Task.NEXT: "ndcg@20"}[self]

    @property
    def k(self) -> int:
        """How many of the best classes its metrics look at."""
        return 10 if self.one_label else 20


class System(StrEnum):
    """The task of a system that is no classifier of rows, in the same places as a :class:`Task`."""

    LANGUAGE = "language"
    PARSING = "parsing"
    TRANSLATE = "translate"


TASKS: dict[str, Task | System] = {task.value: task for task in (*Task, *System)}
"""Every task by its word."""


def task_of(word: str) -> Task | System:
    """The task of a word.

    Raises:
        UsageError: another word.

    Example:
        >>> task_of("next"), task_of("translate")
        (<Task.NEXT: 'next'>, <System.TRANSLATE: 'translate'>)
    """
    if word not in TASKS:
        raise UsageError(f"unknown task {word!r}; {did_you_mean(str(word), list(TASKS))}")
    return TASKS[word]
