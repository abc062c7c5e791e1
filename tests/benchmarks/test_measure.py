"""Where the results of benchmarks go."""

from pathlib import Path

import pytest

from benchmarks import measure


def test_a_record_keeps_old_rows_when_other_columns_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.report("speed", [{"ratio": 0.5}], seed=0)
    measure.report("speed", [{"seconds": 2.0}, {"ratio": 0.4}], seed=1)
    header, *rows = (line.split(",") for line in (tmp_path / "speed.csv").read_text().splitlines())
    assert header[-3:] == ["seed", "ratio", "seconds"]
    assert [row[-3:] for row in rows] == [["0", "0.5", ""], ["1", "", "2.0"], ["1", "0.4", ""]]
    assert [path.name for path in tmp_path.iterdir()] == ["speed.csv"]
