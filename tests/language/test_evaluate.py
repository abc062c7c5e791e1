"""The likelihood of files, and of each of their tokens."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tests.language.conftest import made_text

from widemax.errors import DataError
from widemax.language import LanguageModel
from widemax.language.evaluate import evaluate


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    path = tmp_path / "unseen.txt"
    path.write_text(made_text(20, seed=7) + "xyz ñ\n", encoding="utf-8")
    return path


def test_the_metrics_are_those_of_all_tokens(model: LanguageModel, unseen: Path, tmp_path: Path) -> None:
    values = evaluate(model, [unseen], per_token=tmp_path / "tokens.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "tokens.jsonl").read_text().splitlines()]
    text = unseen.read_text(encoding="utf-8")
    assert len(rows) == values["tokens"] == len(text.split()) + text.count("\n")
    assert [row["token"] for row in rows[-3:]] == ["<unk>", "<unk>", "\n"]
    nats = -sum(row["log_prob"] for row in rows)
    assert values["nll"] == pytest.approx(nats / len(rows), rel=1e-6)
    assert values["perplexity"] == pytest.approx(math.exp(nats / len(rows)), rel=1e-6)
    assert values["perplexity"] == pytest.approx(model.perplexity(text), rel=1e-6)
    assert values["bits_per_character"] == pytest.approx(nats / math.log(2) / len(text), rel=1e-6)
    assert values["bits_per_byte"] == pytest.approx(nats / math.log(2) / (len(text) + 1), rel=1e-6)
    assert values["unknown_tokens"] == 2
    assert values["rows"] == 21


def test_ranks_are_those_of_the_logits(model: LanguageModel, unseen: Path, tmp_path: Path) -> None:
    evaluate(model, [unseen], per_token=tmp_path / "tokens.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "tokens.jsonl").read_text().splitlines()]
    probs, ranks = np.exp([row["log_prob"] for row in rows]), np.array([row["rank"] for row in rows])
    assert (probs * ranks < 1 + 1e-6).all()  # so many are at least as probable
    assert set(ranks[probs > 0.5]) == {1}


def test_files_are_one_text(model: LanguageModel, unseen: Path) -> None:
    twice = evaluate(model, [unseen, unseen])
    assert twice["tokens"] == 2 * evaluate(model, [unseen])["tokens"]


def test_nothing_to_read_is_told(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="no token"):
        evaluate(model, [tmp_path / "empty.txt"])
