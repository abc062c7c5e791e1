"""Attachment scores against the official evaluation of Universal Dependencies."""

import io
import os
import random
from itertools import islice
from pathlib import Path

import pytest

from widemax.parsing.attachment import Attachment
from widemax.parsing.conllu import read_conllu, sentences

TREEBANK = Path(os.environ.get("WIDEMAX_DATA", "../shared/data"), "ud_english_ewt")


def corrupted(sentence, seed, share):
    """Another tree with one root, where some heads and relations differ."""
    draw = random.Random(seed)
    heads, relations = sentence.heads(), sentence.column("DEPREL")
    for word in range(len(sentence)):
        if draw.random() < share:
            relations[word] = draw.choice(["nsubj", "aux", "case", "obl:x", "punct", "root"])
        if draw.random() < share and heads[word]:
            above = draw.randint(1, len(sentence))
            heads[word], before = above, heads[word]
            while above:  # back again if this made a cycle
                if above == word + 1:
                    heads[word] = before
                    break
                above = heads[above - 1]
    return heads, relations


def official(gold, system):
    udeval = pytest.importorskip("udtools.udeval", reason="needs udtools")
    told = [
        udeval.load_conllu(io.StringIO(text), name, {}) for text, name in ((gold, "gold"), (system, "system"))
    ]
    return udeval.evaluate(*told)


@pytest.mark.skipif(not TREEBANK.is_dir(), reason="needs the treebank ud_english_ewt")
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_scores_are_those_of_the_official_evaluation(share):
    scores, gold, system = Attachment(), "", ""
    for seed, sentence in enumerate(islice(read_conllu(TREEBANK / "en_ewt-ud-dev.conllu.gz"), 200)):
        tree = corrupted(sentence, seed, share)
        scores.add(sentence, *tree)
        gold += sentence.with_tree(sentence.heads(), sentence.column("DEPREL"))
        system += sentence.with_tree(*tree)
    found = scores.values()
    wanted = official(gold, system)
    for name in ("UAS", "LAS", "CLAS", "MLAS"):
        assert found[name.lower()] == pytest.approx(wanted[name].f1, abs=1e-12)
    assert (share == 0) == (found["mlas"] == 1)


HEAD = """\
1\tthe\t_\tDET\t_\tDefinite=Def\t2\tdet\t_\t_
2\tdog\t_\tNOUN\t_\tNumber=Sing|Odd=Yes\t3\tnsubj:x\t_\t_
3\tbarks\t_\tVERB\t_\t_\t0\troot\t_\t_
4\t.\t_\tPUNCT\t_\t_\t3\tpunct\t_\t_
"""


def values(heads, relations, **tags):
    (gold,) = sentences(HEAD.encode().splitlines(keepends=True), "dog.conllu")
    scores = Attachment()
    scores.add(gold, heads, relations, **tags)
    return scores


def test_subtypes_are_left_out_and_punctuation_counts():
    right = values([2, 3, 0, 3], ["det", "nsubj", "root", "punct"]).values()
    assert (right["words"], right["uas"], right["las"], right["clas"], right["mlas"]) == (4, 1, 1, 1, 1)
    wrong = values([2, 3, 0, 2], ["det", "nsubj", "root", "punct"]).values()
    assert (wrong["uas"], wrong["las"], wrong["clas"]) == (0.75, 0.75, 1)


def test_mlas_asks_for_tags_and_function_words():
    told = values([3, 3, 0, 3], ["det", "nsubj", "root", "punct"]).values()
    assert (told["las"], told["clas"], told["mlas"]) == (0.75, 1, 0)
    tags = ["DET", "PROPN", "VERB", "PUNCT"]
    told = values([2, 3, 0, 3], ["det", "nsubj", "root", "punct"], upos=tags).values()
    assert (told["clas"], told["mlas"]) == (1, 0.5)
    odd = ["Definite=Def", "Number=Sing", "_", "_"]
    assert values([2, 3, 0, 3], ["det", "nsubj", "root", "punct"], feats=odd).values()["mlas"] == 1


def test_relations_and_lengths_are_told_apart():
    scores = values([2, 3, 0, 3], ["det", "obj", "root", "punct"])
    assert scores.by_relation()["nsubj"] == {"words": 1, "f1": 0}
    assert scores.by_relation()["det"] == {"words": 1, "f1": 1}
    assert scores.by_length() == {"1–10 words": {"words": 4, "uas": 1, "las": 0.75}}
