"""When a model had better not answer: sets of classes that hold the right one with a chosen probability."""

from collections.abc import Sequence
from dataclasses import dataclass

from widemax.artifact import Model
from widemax.errors import UsageError
from widemax.serving.predictions import MAX_K, Ranked
from widemax.training.coverage import covering


@dataclass(frozen=True)
class Coverage:
    """How often sets of classes are to hold the right one.

    Args:
        probability: as often.
        data: rows with their labels, unseen in training, to go by; those that training held out when None.

    Example:
        >>> models = Models(["run"], coverage=Coverage(0.9))  # doctest: +SKIP
    """

    probability: float
    data: str | None = None

    def sets(self, model: Model) -> "Sets":
        """The sets of a model.

        Raises:
            UsageError: rows have several labels, or are too few for this coverage, or are needed.
            DataError: the data lack a column of the model.
        """
        if not model.task.one_label or model.excludes_seen:
            raise UsageError(
                "--coverage is for rows with one right label; the task of this model is "
                f"{model.task.value!r}."
            )
        threshold = covering(model, self.data, coverage=self.probability, k=MAX_K).threshold
        is_shared_out = model.head.normalizer == "softmax"
        most = int(1 / max(threshold, 1 / MAX_K)) if is_shared_out else MAX_K
        return Sets(self.probability, threshold, most)


@dataclass(frozen=True)
class Sets:
    """The classes of each row whose probability reaches a threshold.

    Args:
        coverage: how often they hold the label.
        threshold: the least probability.
        k: so many classes can reach it at most.

    Example:
        >>> tea, ink = Ranked("tea", 0, 0.7, 2.1), Ranked("ink", 1, 0.2, 0.8)
        >>> Sets(coverage=0.9, threshold=0.3, k=3).sizes([[tea, ink]])
        [1]
    """

    coverage: float
    threshold: float
    k: int

    def sizes(self, answers: Sequence[Sequence[Ranked]]) -> list[int]:
        """How many classes the set of each row holds, of which the k best are listed."""
        return [sum(ranked.probability >= self.threshold for ranked in row) for row in answers]
