"""Benchmarks are found, described, and take their arguments; what they measure takes minutes."""

from pathlib import Path

import pytest
from benchmarks.__main__ import names

from benchmarks import softmax_regression

README = Path(softmax_regression.__file__).parent / "README.md"


def test_the_readme_has_a_paragraph_for_each():
    text = README.read_text(encoding="utf-8")
    assert len(names()) > 10
    assert [name for name in names() if f"\n**{name}.**" not in text] == []


def test_softmax_regression_compares_what_it_is_asked_for(monkeypatch):
    compared = []

    def compare(name, *, lbfgs, rounds):
        compared.append(name)
        return [{"solver": "widemax", "seconds": 1.0, "speedup": len(compared) + 5.0}]

    monkeypatch.setattr(softmax_regression, "compare", compare)
    monkeypatch.setattr(softmax_regression, "report", lambda *_, **__: None)
    assert softmax_regression.main([])["ratio"] == 6.0
    assert compared == ["letter", "newsgroups", "mnist"]
    assert softmax_regression.main(["mnist", "letter"])["ratio"] == 9.0
    assert compared[3:] == ["mnist", "letter"]
    with pytest.raises(SystemExit):
        softmax_regression.main(["iris"])
