"""A small treebank, and a parser that has learned it."""

import random

import pytest

from widemax.parsing import Parser

NOUNS, VERBS = ("dog", "cat", "bird", "fish", "Ann", "Bob"), ("sees", "hears", "likes", "feeds")
SMALL = {
    "parser": {
        "form_dim": 16,
        "hidden": 24,
        "action_dim": 32,
        "layers": 1,
        "dropout": 0.1,
        "batch_words": 60,
    },
    "train": {"epochs": 8, "learning_rate": 1e-2},
}


def grammatical(draw):
    """A sentence such as "the dog sees a bird .", with the right tree."""
    words, heads, relations, tags = [], [], [], []

    def add(word, tag, relation):
        words.append(word)
        tags.append(tag)
        relations.append(relation)
        heads.append(None)
        return len(words)

    def noun(relation):
        determiner = add(draw.choice(["the", "a"]), "DET", "det") if draw.random() < 0.7 else None
        adjective = add(draw.choice(["old", "big"]), "ADJ", "amod") if draw.random() < 0.3 else None
        word = add(draw.choice(NOUNS), "NOUN", relation)
        for each in (determiner, adjective):
            if each:
                heads[each - 1] = word
        return word

    subject = noun("nsubj")
    verb = add(draw.choice(VERBS), "VERB", "root")
    heads[subject - 1], heads[verb - 1] = verb, 0
    heads[noun("obj") - 1] = verb
    heads[add(".", "PUNCT", "punct") - 1] = verb
    return words, tags, heads, relations


def treebank(count, seed):
    """CoNLL-U of some sentences."""
    draw = random.Random(seed)
    blocks = []
    for number in range(count):
        rows = enumerate(zip(*grammatical(draw), strict=True), start=1)
        lines = [f"{at}\t{w}\t_\t{t}\t_\t_\t{h}\t{r}\t_\t_" for at, (w, t, h, r) in rows]
        blocks.append("\n".join([f"# sent_id = {seed}-{number}", *lines]) + "\n\n")
    return "".join(blocks)


@pytest.fixture(scope="session")
def treebanks(tmp_path_factory):
    """Files to train on and to hold out."""
    folder = tmp_path_factory.mktemp("treebanks")
    for name, count, seed in (("train", 120, 0), ("dev", 30, 1)):
        (folder / f"{name}.conllu").write_text(treebank(count, seed))
    return folder / "train.conllu", folder / "dev.conllu"


@pytest.fixture(scope="session")
def learned(treebanks, tmp_path_factory):
    """The run of a small parser, and the parser."""
    run = tmp_path_factory.mktemp("parser") / "run"
    return run, Parser.train(treebanks[0], valid=treebanks[1], out=run, **SMALL)
