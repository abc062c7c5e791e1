"""A run as one self-contained HTML page."""

from widemax.evaluation.report.collector import ReportCollector
from widemax.evaluation.report.findings import Findings, Group, Mistake, Reliability
from widemax.evaluation.report.page import ReportData, by_frequency, render_report, write_report

__all__ = [
    "Findings",
    "Group",
    "Mistake",
    "Reliability",
    "ReportCollector",
    "ReportData",
    "by_frequency",
    "render_report",
    "write_report",
]
