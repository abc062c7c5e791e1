import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_rows import (
    one_label_rows,
    random_label_lists,
    random_probs,
    several_label_rows,
    slice_one,
    slice_several,
)
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from widemax.errors import UsageError
from widemax.evaluation import evaluate_rows
from widemax.evaluation.report import Findings, ReportCollector, ReportData, render_report, write_report

B, C = 300, 40
COUNTS = np.maximum(1, 3000 // np.arange(1, C + 1) ** 2)
EVIL = '<script>alert("1")</script>&"\''


def decode(ids: np.ndarray) -> list[Any]:
    return [EVIL if i % 2 else int(i) for i in ids]


def rows_of(task: str) -> Any:
    probs = random_probs(0, B, C)
    if task == "one":
        return one_label_rows(probs, np.random.default_rng(1).integers(-1, C, B).tolist())
    return several_label_rows(probs, random_label_lists(2, B, C))


def collect(task: str, chunks: list[Any], **options: Any) -> Findings:
    collector = ReportCollector(task, class_counts=COUNTS)
    for chunk in chunks:
        collector.update(chunk, **options)
    return collector.findings(decode=decode)


def run_of(task: str) -> ReportData:
    rows = rows_of(task)
    metrics = evaluate_rows(task, [rows], class_counts=COUNTS, num_rows_train=int(COUNTS.sum()))
    texts = [EVIL] * B
    shown = {"one": "accuracy", "several": "p@1", "next": "hr@10"}[task]
    return ReportData(
        title=EVIL,
        task=task,
        metrics={"rows": B, "skipped": 2, "num_classes": C, "task": task, "seconds": 0.5, **metrics},
        config={"seed": 0, "data": {"train": [EVIL], "valid": None, EVIL: True}},
        history=[
            {"step": step, "train_loss": 5 / step, f"valid_{shown}": 1 - 1 / step if step % 10 == 0 else None}
            for step in range(1, 400)
        ],
        findings=collect(task, [rows], texts=texts),
    )


class Checker(HTMLParser):
    """Follows the tags of a page and keeps its names, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("task", ["one", "several", "next"])
def test_page_is_whole_loads_nothing_and_runs_nothing(task: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, run_of(task))
    page = path.read_text(encoding="utf-8")
    parsed = Checker(page)
    assert parsed.open == []
    assert parsed.tags.count("script") == 1
    assert not {"link", "img", "iframe", "object", "form", "a", "base"} & set(parsed.tags)
    # The colors of a matrix are a picture in the page.
    names = {name for name, value in parsed.attributes if not str(value).startswith("data:image/png;base64,")}
    assert not {name for name in names if name.startswith("on") or name in {"src", "href", "action", "style"}}
    assert not re.search(r"https?://|url\(|@import|\bnan\b|\binf\b", page)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    # The label arrives as text, which shows that it was escaped rather than dropped.
    assert EVIL in parsed.text
    # The one script is the page's own, and the policy of the page lets no other run.
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert not re.search("innerHTML|eval|fetch|import", script[1])


def test_same_run_gives_same_bytes() -> None:
    assert render_report(run_of("one")) == render_report(run_of("one"))


def test_page_shows_each_part_for_its_task() -> None:
    one, several = Checker(render_report(run_of("one"))).text, Checker(render_report(run_of("several"))).text
    for heading in (
        "Loss",
        "Validation",
        "Reliability",
        "Accuracy by class frequency",
        "Most confused",
        "Config",
    ):
        assert heading in one
    for heading in ("Found by class frequency", "Precision by class frequency", "Hardest classes"):
        assert heading in several
    assert "Reliability" not in several


def test_page_of_a_bare_run_has_only_its_numbers() -> None:
    parsed = Checker(
        render_report(ReportData("run", "one", {"accuracy": 0.5, "nll": float("nan"), "mine": 3.25}))
    )
    assert "50.00%" in parsed.text
    assert "3.25" in parsed.text
    assert "svg" not in parsed.tags
    assert "table" not in parsed.tags


def test_half_a_surrogate_pair_can_be_written(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", ReportData("\ud800", "one", {}))
    assert (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", ["one", "several"])
def test_chunks_give_the_same_findings(task: str) -> None:
    rows = rows_of(task)
    part = slice_one if task == "one" else slice_several
    whole, split = (
        collect(task, [rows]),
        collect(task, [part(rows, 0, 7), part(rows, 7, 150), part(rows, 150, B)]),
    )
    for one, other in zip(whole.reliability, split.reliability, strict=True):
        assert one.confidence == pytest.approx(other.confidence)
    assert whole.groups == split.groups
    assert whole.confusions == split.confusions
    assert whole.mistakes == split.mistakes
    assert whole.worst_classes == split.worst_classes


def test_groups_hold_every_class_and_every_known_label_once() -> None:
    rows = rows_of("several")
    groups = collect("several", [rows]).groups
    assert 2 <= len(groups) <= 8
    assert sum(group.num_classes for group in groups) == C
    for group in groups:
        inside = (group.low <= COUNTS) & (group.high >= COUNTS)
        assert group.num_classes == inside.sum()
        ids, found = rows.label_ids_P[rows.label_ids_P >= 0], rows.ranks_P[rows.label_ids_P >= 0] <= 10
        assert group.num_labels == inside[ids].sum()
        assert group.num_found == inside[ids[found]].sum()
        assert group.num_predicted == inside[rows.topk_ids_BK[:, :5]].sum()
        hits = [
            y
            for b, ids in enumerate(random_label_lists(2, B, C))
            for y in rows.topk_ids_BK[b, :5]
            if y in ids
        ]
        assert group.num_right == inside[hits].sum()


@pytest.mark.parametrize("counts", [[5], [5, 5, 5], [0, 0], [0, 1, 10**9], [1, 2]])
def test_groups_of_any_counts(counts: list[int]) -> None:
    collector = ReportCollector("several", class_counts=np.array(counts))
    groups = collector.findings(decode=decode).groups
    assert sum(group.num_classes for group in groups) == len(counts)
    assert groups[0].low == min(counts)
    assert groups[-1].high == max(counts)
    render_report(ReportData("run", "several", {}, findings=collector.findings(decode=decode)))


def test_confusions_and_mistakes_are_the_wrong_rows() -> None:
    probs = np.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.6, 0.3, 0.1]]) + 1e-9
    collector = ReportCollector("one", class_counts=np.array([3, 2, 1]))
    collector.update(one_label_rows(probs[:2], [1, 1]), texts=["a", "b"])
    collector.update(one_label_rows(probs[2:], [1, -1]), texts=["c", "d"])
    found = collector.findings(decode=lambda ids: ["x", "y", "z"][: len(ids)] and [f"c{i}" for i in ids])
    assert [(one.label, one.predicted, one.num_rows) for one in found.confusions] == [("c1", "c0", 2)]
    assert [(one.row, one.text, one.label, one.predicted) for one in found.mistakes] == [
        (1, "b", "c1", "c0"),
        (0, "a", "c1", "c0"),
    ]
    assert [(one.label, one.num_labels, one.num_found) for one in found.worst_classes] == [("c1", 3, 1)]


def test_texts_must_match_the_rows() -> None:
    with pytest.raises(UsageError, match="one text for each of the 300 rows; got 1"):
        collect("one", [rows_of("one")], texts=["one"])


def test_every_class_has_precision_recall_and_f1_as_scikit_learn_gives_them() -> None:
    rows = rows_of("one")
    findings = collect("one", [rows])
    known_B = rows.labels_B >= 0
    ids = np.union1d(rows.labels_B[known_B], rows.predicted_B)
    precision, recall, f1, _ = precision_recall_fscore_support(
        rows.labels_B, rows.predicted_B, labels=ids, zero_division=0
    )
    # The label that nobody knows is predicted too: it takes precision from the class predicted.
    expected = sorted(zip(precision, recall, f1, strict=True))
    found = sorted((one.precision, one.recall, one.f1) for one in findings.classes)
    np.testing.assert_allclose(found, expected)
    assert [one.f1 for one in findings.classes] == sorted(one.f1 for one in findings.classes)
    matrix_CC = confusion_matrix(rows.labels_B[known_B], rows.predicted_B[known_B], labels=range(C))
    assert np.array_equal(findings.matrix, matrix_CC)
    assert collect("several", [rows_of("several")]).matrix == ()


def test_mistakes_stand_where_they_are_told() -> None:
    collector = ReportCollector("one", class_counts=COUNTS)
    collector.update(rows_of("one"))
    told = collector.findings(
        decode=decode, tell=lambda rows: {row: (f"a.csv:{row + 2}", "x") for row in rows}
    )
    plain = collector.findings(decode=decode)
    assert [one.row for one in told.mistakes] == [f"a.csv:{one.row + 2}" for one in plain.mistakes]
    assert {one.text for one in told.mistakes} == {"x"}


def test_headings_of_tables_and_drawings_speak() -> None:
    page = render_report(replace(run_of("one"), told=("widemax 9.9", "stopped at epoch 0.03 of 8")))
    assert not re.search(r"<th(?! scope=)(?!ead)", page)
    assert "stopped at epoch 0.03 of 8" in page
    assert all("aria-label" in drawing for drawing in re.findall(r"<svg[^>]*role[^>]*>", page))
    assert "training loss (nats)" in page
