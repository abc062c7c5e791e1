"""Classes with names on the command line: trained on, and added later."""

import json
from pathlib import Path


def test_more_classes_by_their_names(widemax, tmp_path: Path) -> None:
    rows, classes, new = (tmp_path / name for name in ("rows.csv", "classes.csv", "new.csv"))
    names = {"t1": "green tea", "t2": "black tea", "i1": "green ink"}
    lines = [f"we saw some {name} there,{label}" for label, name in names.items() for _ in range(40)]
    rows.write_text("\n".join(["text,label", *lines]) + "\n")
    classes.write_text("label,name\nt1,green tea\nt2,black tea\ni1,green ink\n")
    new.write_text("label,name\ni2,black ink\n")
    run, larger = tmp_path / "run", tmp_path / "larger"
    trained = widemax("train", rows, "--target", "label", "--classes", classes, "--out", run)
    assert trained.code == 0, trained.err
    assert '"../classes.csv"' in (run / "config.toml").read_text(encoding="utf-8")
    extended = widemax("extend", run, "--classes", new, "--out", larger, "--json")
    assert json.loads(extended.out) == {"run": str(larger), "new_classes": 1, "num_classes": 4}
    assert widemax("verify", larger).code == 0
    asked = tmp_path / "asked.csv"
    asked.write_text("text\nwe saw some black ink there\n")
    answers = json.loads(widemax("predict", larger, asked, "-k", "4", "--json").out)
    assert "i2" in json.dumps(answers)
    assert widemax("export", larger, "--out", tmp_path / "small", "--data", rows).code == 0
    again = widemax("extend", tmp_path / "small", "--classes", new, "--out", tmp_path / "other")
    assert (again.code, "all 1 labels of the table are classes" in again.err) == (2, True)
