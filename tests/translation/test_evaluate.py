"""How good translations are: beside sacrebleu, and over all pieces."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.translation.conftest import sentences, translated

from widemax.errors import DataError
from widemax.translation import Pairs, Translator
from widemax.translation import evaluate as evaluate_module
from widemax.translation.evaluate import evaluate, nll_of, scores

sacrebleu = pytest.importorskip("sacrebleu", reason="needs the extra translation")


def test_scores_are_those_of_sacrebleu() -> None:
    ours = ["ein roter hund rennt .", "zwei katzen schlafen auf dem haus ."]
    theirs = ["ein roter hund rennt schnell .", "zwei katzen schlafen auf einem haus ."]
    found = scores(ours, theirs)
    assert found["bleu"] == pytest.approx(
        sacrebleu.corpus_bleu(ours, [theirs], tokenize="none", force=True).score, abs=1e-9
    )
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(ours, [theirs]).score, abs=1e-9)
    assert "tok:none" in found["signature"]
    plain = [[line.replace(" .", ".") for line in lines] for lines in (ours, theirs)]
    assert "tok:13a" in scores(*plain)["signature"]


def test_tokenized_and_plain_texts_are_not_compared() -> None:
    with pytest.raises(DataError, match="the references are plain text and the translations tokenized"):
        scores(["ein hund rennt ."], ["Ein Hund rennt."])
    with pytest.raises(DataError, match="there are 2 translations and 1 references"):
        scores(["a .", "b ."], ["a ."])


def test_the_likelihood_is_over_all_pieces_however_they_are_cut(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = sentences(30, seed=3)
    pairs = Pairs.of(iter(lines), map(translated, lines), translator.subwords, max_pieces=100)
    found = nll_of(translator, pairs)
    total = 0.0
    translator.encoder.eval()
    for line in range(len(pairs)):
        source, target, following = pairs.tensors(np.array([line]))
        hidden = translator.encoder(source, target, translator.table)
        logits = translator.head.logits(hidden).double()
        total += torch.nn.functional.cross_entropy(logits, following[0], reduction="sum").item()
    assert found["tokens"] == pairs.target.lengths.sum() + 30
    assert found["nll"] == pytest.approx(total / found["tokens"], rel=1e-5)
    assert found["perplexity"] == pytest.approx(np.exp(found["nll"]))
    monkeypatch.setattr(evaluate_module, "PIECES_AT_ONCE", 40)
    assert nll_of(translator, pairs)["nll"] == pytest.approx(found["nll"], rel=1e-6)


def test_files_are_translated_and_compared(translator: Translator, tmp_path: Path) -> None:
    lines = sentences(20, seed=4)
    source, target = tmp_path / "a.en", tmp_path / "a.de"
    source.write_text("\n".join(lines))
    target.write_text("\n".join(map(translated, lines)))
    found = evaluate(translator, [source], [target], beam=2)
    assert found["bleu"] > 70
    assert found["rows"] == 20
    right = [found.text for found in translator.translate(lines, beam=2)]
    assert found["bleu"] == pytest.approx(scores(right, list(map(translated, lines)))["bleu"])
