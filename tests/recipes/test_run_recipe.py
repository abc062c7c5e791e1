"""Folders, randomness, results.json and report.html of a run."""

import json
import re

import pytest
import torch

from widemax.errors import DataError, UnknownNameError, UsageError
from widemax.recipes import Results, run_recipe
from widemax.recipes import run as running


def test_a_run_leaves_results_pictures_and_a_report(coin, tmp_path):
    folder = tmp_path / "new" / "coin"
    outcome = run_recipe(coin, folder=folder, quick=True, seed=3)
    names = ["coin.svg", "manifest.json", "report.html", "results.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert outcome.results.pictures[0].path == folder / "coin.svg"
    facts = json.loads((folder / "results.json").read_text("utf-8"))
    assert facts == outcome.facts
    assert (facts["recipe"], facts["quick"], facts["seed"]) == ("coin", True, 3)
    heads, logarithm = facts["lines"]
    assert heads["known"] == "0.500 ± 0.1"
    assert heads["source"] == "Bernoulli, Ars Conjectandi, 1713"
    assert heads["reached"]
    assert (logarithm["obtained"], logarithm["values"], logarithm["reached"]) == ("-inf", ["-inf"], False)
    assert facts["pictures"][0]["file"] == "coin.svg"
    assert facts["findings"] == ["Heads come up about as often as tails."]


def test_the_report_is_one_file_with_its_pictures(coin, tmp_path):
    run_recipe(coin, folder=tmp_path, quick=True)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "A coin &lt;thrown&gt; often" in page
    assert "quick run" in page
    assert "1 of 2 known results reached" in page
    assert "Heads &amp; tails." in page
    assert 'aria-label="A &quot;coin&quot;."' in page
    assert "Heads come up" in page
    circle = '<circle r="4"/>'
    assert circle in page
    assert circle in (tmp_path / "coin.svg").read_text("utf-8")
    assert not re.findall(r"<script|https?://", page)


def test_same_seed_same_results(coin, tmp_path):
    def lines(seed):
        return run_recipe(coin, folder=tmp_path, seed=seed, overwrite=True).facts["lines"]

    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    first = lines(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert lines(0) == first
    assert lines(1) != first


def test_a_folder_in_use_is_left_alone(coin, tmp_path):
    (tmp_path / "results.json").write_text("precious")
    with pytest.raises(UsageError, match=r"is not empty\. Choose another folder"):
        run_recipe(coin, folder=tmp_path)
    with pytest.raises(UsageError, match="is not a run folder"):
        run_recipe(coin, folder=tmp_path, overwrite=True)
    assert (tmp_path / "results.json").read_text() == "precious"


def test_a_run_stays_until_another_has_ended(coin, tmp_path, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    run_recipe(coin, folder=tmp_path, quick=True)
    before = (tmp_path / "results.json").read_text("utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(Results, "draw", stop)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(coin, folder=tmp_path, quick=True, seed=1, overwrite=True)
    assert (tmp_path / "results.json").read_text("utf-8") == before
    (tmp_path / "notes.txt").touch()
    run_recipe(coin, folder=tmp_path, quick=True, seed=1, overwrite=True)
    assert (tmp_path / "results.json").read_text("utf-8") != before
    assert (tmp_path / "notes.txt").exists()


def test_an_unknown_recipe(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown recipe 'overflw'; did you mean 'overflow'"):
        run_recipe("overflw", folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_absent_data_are_told_before_anything_is_written(coin, tmp_path, monkeypatch):
    monkeypatch.setattr(running.recipes[coin], "data", ("gowalla",))
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WIDEMAX_DATA", raising=False)
    with pytest.raises(DataError, match="the original files of 'gowalla' are not here"):
        run_recipe(coin, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
