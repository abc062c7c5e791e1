"""Metrics for people: which matter most for a task, what they are called, and how values are written."""

from collections.abc import Iterator, Mapping
from typing import Any

from widemax.errors import counted
from widemax.task import System, Task

HEADLINES: dict[Task | System, tuple[str, ...]] = {
    Task.ONE: ("accuracy", "top5", "macro_f1", "nll", "ece", "unseen_labels"),
    Task.SEVERAL: ("p@1", "p@5", "r@10", "ndcg@5", "f1", "unseen_labels"),
    Task.NEXT: ("hr@10", "recall@20", "ndcg@10", "mrr", "coverage@20", "unseen_labels", "excluded_labels"),
    System.LANGUAGE: (
        *("perplexity", "nll", "bits_per_character", "bits_per_byte", "tokens"),
        "unknown_tokens",
    ),
    System.PARSING: ("uas", "las", "clas", "mlas"),
    System.TRANSLATE: ("bleu", "chrf", "nll", "perplexity", "tokens"),
}
GUESSED: dict[Task | System, str] = {
    Task.ONE: "most frequent class",
    Task.SEVERAL: "most frequent classes",
    Task.NEXT: "most popular items",
}
"""What the baseline of a task answers; nobody guesses translations or texts."""

CONTEXT = (
    *("rows", "skipped", "num_classes", "task", "overlap_rows", "seconds", "rows_per_s", "tokens_per_s"),
    *("baseline", "threshold", "item_knn", "by_history", "by_popularity", "signature", "beam"),
)
"""What stands beside the metrics in ``evaluate --json``."""

COUNTS = ("unseen_labels", "excluded_labels", "unknown_tokens")
"""Metrics that are of the rows, whoever answers."""

_NAMES = {
    "nll": "negative log-likelihood",
    "mean_reciprocal_rank": "mean reciprocal rank",
    "mrr": "mean reciprocal rank",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "adaptive_ece": "calibration error, bins of equal mass",
    "brier": "Brier score",
    "top_label_brier": "Brier score of the best class",
    "unseen_labels": "labels never seen",
    "excluded_labels": "labels in their own history",
    "top5": "among the first 5",
    "top10": "among the first 10",
    "p": "precision",
    "r": "recall",
    "recall": "recall",
    "hr": "hit rate",
    "ndcg": "nDCG",
    "psp": "precision for rare labels",
    "f1": "micro F1 above the threshold",
    "coverage": "catalogue coverage",
    "novelty": "rarity",
    "bleu": "BLEU",
    "chrf": "chrF",
    "bits_per_character": "bits a character",
    "bits_per_byte": "bits a byte",
    "unknown_tokens": "tokens of the unknown class",
    "uas": "UAS",
    "las": "LAS",
    "clas": "CLAS",
    "mlas": "MLAS",
}
_SHARES = {
    *("accuracy", "top5", "top10", "macro_f1", "ece", "adaptive_ece", "p", "r", "recall", "hr", "psp", "f1"),
    *("coverage", "uas", "las", "clas", "mlas"),
}


def called(metric: str) -> str:
    """A metric in words.

    Example:
        >>> called("p@5"), called("p@1"), called("ece"), called("my_metric")
        ('precision of the first 5', 'precision of the first', 'calibration error', 'my_metric')
    """
    kind, at, k = metric.partition("@")
    name = _NAMES.get(kind, kind)
    return f"{name} of the first" + f" {k}" * (k != "1") if at else name


def in_words(metric: str, value: Any) -> str:
    """The value of a metric, a share in percent and a likelihood with its unit.

    Example:
        >>> in_words("accuracy", 2 / 3), in_words("nll", 0.5), in_words("mrr", 0.5), in_words("ece", None)
        ('66.67%', '0.5000 nats', '0.5000', 'undefined')
    """
    if not isinstance(value, int | float) or value != value:
        return "undefined"
    if metric.partition("@")[0] in _SHARES:
        return f"{100 * value:.2f}%"
    return f"{value:,.0f}" if metric in (*COUNTS, "tokens") else f"{value:.4f}" + " nats" * (metric == "nll")


def rounded_epochs(count: float) -> str:
    """A number of epochs to two decimals; less than that by its first digit.

    Example:
        >>> [rounded_epochs(count) for count in (1.0, 12.345, 0.0345, 0.00012)]
        ['1', '12.35', '0.03', '0.0001']
    """
    return f"{round(count, 2) or float(f'{count:.1g}'):.15g}"


def group_lines(values: Mapping[str, Any]) -> Iterator[str]:
    """The metrics of groups of users and items, a line a group.

    Example:
        >>> group = {"history": "1–4", "labels": 7, "recall@20": 0.5, "ndcg@10": 0.25}
        >>> list(group_lines({"by_history": [group]}))
        ['history 1–4: 7 labels, recall of the first 20 50.00%, nDCG of the first 10 0.2500']
    """
    for by in ("history", "popularity"):
        for group in values.get(f"by_{by}", ()):
            shown = (
                f"{called(name)} {in_words(name, group[name])}"
                for name in group
                if name not in (by, "labels")
            )
            yield ", ".join([f"{by} {group[by]}: {counted(group['labels'], 'label')}", *shown])


def metric_lines(
    task: Task | System, metrics: Mapping[str, Any], baseline: Mapping[str, Any], *, every: bool = False
) -> Iterator[str]:
    """The metrics that matter most for a task, or all, and beside each what baselines reach.

    Labels that were never seen, or that a history excludes, are told where there are some.

    Example:
        >>> list(metric_lines(Task.ONE, {"brier": 0.1, "accuracy": 0.9}, {"accuracy": 0.4}))
        ['accuracy  90.00%  (most frequent class: 40.00%)']
    """
    names = [name for name in HEADLINES[task] if name in metrics and (metrics[name] or name not in COUNTS)]
    if every:
        names += [name for name in metrics if name not in {*names, *CONTEXT}]
    width = max((len(called(name)) for name in names), default=0)
    widest = max((len(in_words(name, metrics[name])) for name in names), default=0)
    for name in names:
        line = f"{called(name):<{width}}  {in_words(name, metrics[name]):>{widest}}"
        reached = {
            GUESSED.get(task, ""): baseline.get(name),
            "item-kNN": metrics.get("item_knn", {}).get(name),
        }
        beside = [f"{who}: {in_words(name, value)}" for who, value in reached.items() if value is not None]
        yield f"{line}  ({', '.join(beside)})" if beside and name not in COUNTS else line
