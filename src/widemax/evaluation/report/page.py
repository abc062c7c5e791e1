"""report.html: one file that loads nothing, so that it opens anywhere and forever.

Its one script, which sorts tables, is known to the page by its hash; no other can run.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from widemax.charts import Drawing, percent
from widemax.errors import visible
from widemax.evaluation.headlines import CONTEXT, GUESSED, HEADLINES, called, in_words
from widemax.evaluation.report.charts import (
    confusion_matrix,
    curves,
    points_of,
    reliability_diagram,
    share_by_frequency,
)
from widemax.evaluation.report.findings import Findings
from widemax.evaluation.report.style import STYLE
from widemax.evaluation.report.tables import table
from widemax.task import System, Task

CURVES: dict[Task | System, tuple[str, ...]] = {
    Task.ONE: ("accuracy", "top5", "macro_f1"),
    Task.SEVERAL: ("p@1", "p@5", "psp@1", "r@10"),
    Task.NEXT: ("hr@10", "ndcg@10", "recall@20"),
    System.LANGUAGE: (),
    System.PARSING: ("uas", "las", "clas"),
    System.TRANSLATE: (),
}
# Sorts a table by the column whose heading was clicked, and the other way at the next click.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable"))
  table.tHead.addEventListener("click", ({ target }) => {
    const head = target.closest("th"), body = table.tBodies[0];
    if (!head) return;
    const up = head.ariaSort !== "ascending";
    const key = row => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
    const order = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true });
    body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
    for (const other of head.parentNode.cells) other.ariaSort = null;
    head.ariaSort = up ? "ascending" : "descending";
  });
"""
HASH = b64encode(sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{HASH}'"


@dataclass(frozen=True)
class ReportData:
    """What a report is made of.

    Args:
        title: what the run is called.
        task: what the model was asked for.
        metrics: the object of ``evaluate --json``; fields about the evaluation itself go into the subtitle.
        baseline: the same metrics of a model that gives every row the most frequent classes.
        config: the run's config, sections of keys and values.
        history: the records of metrics.jsonl: step, epoch, seconds, train_loss, and ``valid_`` + metric.
        findings: what a ``ReportCollector`` found, if rows were evaluated.
        drawings: pictures of single answers, by what they show.
        told: what else the reader should know, such as version and date.
    """

    title: str
    task: Task | System
    metrics: Mapping[str, Any]
    baseline: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    findings: Findings | None = None
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    told: Sequence[str] = ()


def write_report(path: Path, run: ReportData) -> None:
    """Write ``render_report(run)`` to a file, control characters of labels and the like as escapes.

    Example:
        >>> from tempfile import mkdtemp
        >>> write_report(Path(mkdtemp()) / "report.html", ReportData("run", Task.ONE, {"accuracy": 0.9}))
    """
    path.write_text(visible(render_report(run)), encoding="utf-8")


def render_report(run: ReportData) -> str:
    """The page; the same run gives the same bytes."""
    body = f"<header><h1>{escape(run.title)}</h1><p>{escape(_subtitle(run.metrics))}</p>"
    body += f"<p>{escape(' · '.join(run.told))}</p></header>"
    body += _tiles(run)
    charts = _learning_curves(run) + (_finding_charts(run.findings) if run.findings else "")
    body += f'<div class="charts">{charts}</div>' if charts else ""
    body += _finding_tables(run.findings) if run.findings else ""
    pictures = [
        f"<figure><figcaption>{escape(caption)}</figcaption>{drawing.inline(caption)}</figure>"
        for caption, drawing in run.drawings.items()
    ]
    body += f'<div class="pictures">{"".join(pictures)}</div>' if pictures else ""
    body += _config(run.config)
    return html_page(run.title, body, footer="Made by widemax. Metrics are exact over all classes.")


def html_page(title: str, body: str, *, footer: str) -> str:
    """A whole page in the look of the report, from a title and a footer in words and a body in HTML."""
    script = f"<script>{SCRIPT}</script>" if 'class="sortable"' in body else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}<footer>{escape(footer)}</footer></main>{script}</body></html>\n"
    )


def _subtitle(metrics: Mapping[str, Any]) -> str:
    parts = []
    if "rows" in metrics:
        parts.append(f"{metrics['rows']:,} rows")
    if metrics.get("skipped"):
        parts.append(f"{metrics['skipped']:,} skipped")
    if "num_classes" in metrics:
        parts.append(f"{metrics['num_classes']:,} classes")
    if "seconds" in metrics:
        parts.append(f"evaluated in {metrics['seconds']:.1f} s")
    if metrics.get("overlap_rows"):
        parts.append(f"{metrics['overlap_rows']:,} of them stand in training too")
    return " · ".join(parts)


def _tiles(run: ReportData) -> str:
    ordered = [name for name in HEADLINES[run.task] if name in run.metrics]
    others = [name for name in run.metrics if name not in {*ordered, *CONTEXT}]
    tiles = "".join(
        f'<div title="{escape(name)}"><dt>{escape(called(name))}</dt>'
        f"<dd>{_value(name, run.metrics[name])}</dd>{_baseline(run, name)}</div>"
        for name in ordered + others
    )
    return f'<dl class="tiles">{tiles}</dl>'


def _value(name: str, value: Any) -> str:
    number, _, unit = in_words(name, value).partition(" ")
    return f"{number} <small>{unit}</small>" if unit else number


def _baseline(run: ReportData, name: str) -> str:
    """What stands beneath a metric."""
    if name not in run.baseline:
        return ""
    shown = f"{in_words(name, run.baseline[name])} for the {GUESSED[run.task]}"
    return f'<dd class="baseline">{shown}</dd>'


def _learning_curves(run: ReportData) -> str:
    losses = {"training loss": "train_loss", "validation nll": "valid_nll"}
    loss = {name: points_of(run.history, key) for name, key in losses.items()}
    shares = {called(key): points_of(run.history, f"valid_{key}") for key in CURVES[run.task]}
    return curves(
        "Loss",
        "The training loss is the one being optimized; the nll is exact.",
        loss,
        unit="nats",
        apart=True,
    ) + curves(
        "Validation", "Measured on the held-out rows during training.", shares, unit="share", show=percent
    )


def _finding_charts(findings: Findings) -> str:
    charts = reliability_diagram(findings.reliability) + confusion_matrix(findings.names, findings.matrix)
    return charts + by_frequency(findings)


def by_frequency(findings: Findings) -> str:
    """The figures of how rare classes fare against common ones; nothing where all are alike."""
    one = findings.task.one_label
    if len(findings.groups) < 2:
        return ""
    found = share_by_frequency(
        "Accuracy by class frequency" if one else "Found by class frequency",
        "How rare classes fare against common ones."
        if one
        else "The share of labels among the first 10 predictions, rare classes against common ones.",
        findings.groups,
        hits=lambda group: group.num_found,
        of=lambda group: group.num_labels,
        noun="labels",
    )
    if one:
        return found
    return found + share_by_frequency(
        "Precision by class frequency",
        "The share of the first 5 predictions that are right, by the class predicted.",
        findings.groups,
        hits=lambda group: group.num_right,
        of=lambda group: group.num_predicted,
        noun="predictions",
    )


def _finding_tables(findings: Findings) -> str:
    bound = " There were too many different pairs to keep: counts are lower bounds."
    pair = table(
        "Most confused",
        "The label, and what was predicted instead."
        + (bound if findings.confusions_are_lower_bounds else ""),
        ("label", "predicted", "rows"),
        [(one.label, one.predicted, one.num_rows) for one in findings.confusions],
    ) + table(
        "Hardest classes",
        "Least often found, among the classes with at least 3 labels here.",
        ("class", "found", "labels", "training rows"),
        [
            (one.label, one.num_found / one.num_labels, one.num_labels, one.num_train)
            for one in findings.worst_classes
        ],
    )
    mistakes = table(
        "Surest mistakes",
        "The wrong rows on which the model was most confident. Often it is the label that is wrong.",
        ("row", "inputs", "label", "predicted", "confidence"),
        [(one.row, one.text, one.label, one.predicted, one.confidence) for one in findings.mistakes],
    )
    within = "" if findings.task.one_label else " within the first 5 predictions"
    classes = table(
        "Classes",
        f"Every class that was a label or was predicted{within}. A click on a heading sorts.",
        ("class", "precision", "recall", "F1", "labels", "predicted", "training rows"),
        [
            (one.label, one.precision, one.recall, one.f1, one.num_labels, one.num_predicted, one.num_train)
            for one in findings.classes
        ],
        sortable=True,
    )
    return f'<div class="pair">{pair}</div>{mistakes}{classes}'


def _config(config: Mapping[str, Any]) -> str:
    sections = {name: keys for name, keys in config.items() if isinstance(keys, Mapping)}
    loose = {name: value for name, value in config.items() if name not in sections}
    cards = "".join(
        f'<div class="card"><h3>{escape(name)}</h3><table><tbody>'
        + "".join(
            f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(_setting(value))}</td></tr>'
            for key, value in keys.items()
        )
        + "</tbody></table></div>"
        for name, keys in {**({"run": loose} if loose else {}), **sections}.items()
        if keys
    )
    return f'<section><h2>Config</h2><div class="config">{cards}</div></section>' if cards else ""


def _setting(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return str(value)
