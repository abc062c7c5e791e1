"""``widemax recipe list`` and ``widemax recipe run``."""

import json

from widemax.recipes import recipes


def test_list_shows_data_and_time(widemax):
    shown = widemax("recipe", "list").out
    for name in recipes:
        assert name in shown
        assert recipes[name].title in shown
        assert recipes[name].full_time in shown
    entries = {
        entry["name"]: entry for entry in json.loads(widemax("recipe", "list", "--json").out)["recipes"]
    }
    assert list(entries) == recipes.names()
    assert set(entries["multilabel"]["data"]) == set(recipes["multilabel"].data)
    assert entries["overflow"]["known"]["softmax([1, 2, 3])"]["known"] == "0.0900, 0.2447, 0.6652"


def test_an_unknown_recipe_is_answered_with_the_nearest(widemax):
    result = widemax("recipe", "run", "overflw")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: unknown recipe 'overflw'; did you mean 'overflow'?\n"


def test_run_prints_the_known_beside_the_obtained(widemax, tmp_path):
    out = tmp_path / "run"
    result = widemax("recipe", "run", "sigmoid-or-softmax", "--quick", "--out", out)
    assert result.code == 0, result.err
    (line,) = [line for line in result.out.splitlines() if line.startswith("sum of these sigmoids")]
    assert line.split(maxsplit=4)[4].split("  ") == ["known 2.53 ± 0.01", *[""] * 9, "obtained 2.54"]
    assert "in a quick run" in result.out
    assert f"report: {out / 'report.html'}" in result.out
    facts = json.loads(
        widemax("recipe", "run", "sigmoid-or-softmax", "--out", out, "--overwrite", "--json").out
    )
    assert facts["folder"] == str(out)
    assert all(line["reached"] for line in facts["lines"])
    assert not facts["quick"]


def test_a_result_that_is_not_reached_is_marked(widemax, tmp_path, monkeypatch):
    known = recipes["sigmoid-or-softmax"].known
    false = {what: type(one).at_least(9, digits=0, source="nobody") for what, one in known.items()}
    single = {"sum of this softmax": false["sum of this softmax"]}
    monkeypatch.setattr(recipes["sigmoid-or-softmax"], "known", dict(known) | single)
    result = widemax("recipe", "run", "sigmoid-or-softmax", "--out", tmp_path / "run")
    assert result.code == 0
    assert result.out.count("NOT REACHED") == 1
    assert f"{len(known) - 1} of {len(known)} known results reached" in result.out


def test_a_folder_in_use(widemax, tmp_path):
    (tmp_path / "mine.txt").touch()
    result = widemax("recipe", "run", "overflow", "--out", tmp_path)
    assert result.code == 2
    assert "is not empty" in result.err
