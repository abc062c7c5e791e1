"""A dependency parser whose actions a softmax chooses, on English of the web."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from widemax import charts
from widemax.charts import Panel
from widemax.data import resolve
from widemax.parsing import Attachment, Parser, Sentence, Tree, lift, read_conllu, restore
from widemax.recipes.base import Recipe, Results, recipes
from widemax.recipes.known import Known

UDPIPE = "UDPipe 1, model english-ewt-ud-2.5, given words and its own tags (ufal.mff.cuni.cz/udpipe/1/models)"
LAW = "every action of the transition system keeps it so, whatever is learned"
NIVRE = "Nivre, Nilsson, Pseudo-projective dependency parsing, ACL 2005"
QUICK_SENTENCES = 300
SHOWN_WORDS = range(8, 15)


@recipes.register("parser-ewt")
class ParserEWT(Recipe):
    """Sentences of the English Web Treebank, and which word belongs to which."""

    title = "Parsing: a state is the context, its next action the class"
    description = (
        "A parser reads a sentence from left to right. It keeps a stack of words, and one softmax over about "
        "140 actions chooses what comes next: another word, or an arc with its relation between two words. "
        "LSTMs from both ends of a sentence, over known words and their character n-grams, make the state. A "
        "dynamic oracle tells in training which actions lose no arc. Words alone are read, without tags."
    )
    data = ("ud_english_ewt",)
    full_time = "5 min"
    known = {  # noqa: RUF012 - read only
        "UAS of the test sentences": Known.at_least(0.844, digits=4, source=UDPIPE),
        "LAS of the test sentences": Known.at_least(0.811, digits=4, source=UDPIPE),
        "arcs that lifting and restoring keep": Known.at_least(0.9998, digits=5, source=NIVRE),
        "answers that are one tree with one root": Known.printed(1.0, digits=4, source=LAW),
        "the same where the words are shuffled": Known.printed(1.0, digits=4, source=LAW),
    }

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        with TemporaryDirectory() as folder:
            files = {split: written(split, Path(folder), quick=quick) for split in ("train", "valid", "test")}
            parser = Parser.train(
                files["train"],
                valid=files["valid"],
                out=Path(folder, "run"),
                train={"epochs": 2 if quick else 4, "seed": seed},
            )
            trained, asked = (list(read_conllu(files[split])) for split in ("train", "test"))
        results.obtain("arcs that lifting and restoring keep", kept(trained))
        trees, scores = parser.parse(asked), Attachment()
        for sentence, tree in zip(asked, trees, strict=True):
            scores.add(sentence, *tree)
        values = scores.values()
        for name in ("uas", "las"):
            results.obtain(f"{name.upper()} of the test sentences", values[name])
        results.obtain("answers that are one tree with one root", share_of_trees(trees))
        results.obtain(
            "the same where the words are shuffled", share_of_trees(parser.parse(mixed(asked, seed)))
        )
        by_relation = scores.by_relation()
        hardest = sorted(list(by_relation)[:20], key=lambda name: by_relation[name]["f1"])[:3]
        told = ", ".join(f"{name} ({by_relation[name]['f1']:.2f})" for name in hardest)
        results.find(f"Of the twenty most frequent relations the hardest are, by F1, {told}.")
        _draw(results, asked, trees, scores)


def written(split: str, folder: Path, *, quick: bool) -> Path:
    """A split of the treebank as a CoNLL-U file; its first sentences if quick."""
    sentences = pq.read_table(resolve([f"ud_english_ewt:{split}"])[0], columns=["conllu"])["conllu"]
    path = folder / f"{split}.conllu"
    path.write_text("".join(sentences.slice(0, QUICK_SENTENCES if quick else None).to_pylist()), "utf-8")
    return path


def kept(sentences: Sequence[Sentence]) -> float:
    """The share of arcs that come back once crossing ones have been lifted."""
    right = total = 0
    for sentence in sentences:
        heads = [head - 1 if head else len(sentence) for head in sentence.heads()]
        tree = heads, sentence.column("DEPREL")
        found = restore(*lift(*tree))
        right += sum(a == b for a, b in zip(zip(*found, strict=True), zip(*tree, strict=True), strict=True))
        total += len(sentence)
    return right / total


def mixed(sentences: Sequence[Sentence], seed: int) -> list[list[str]]:
    """Their words in random order."""
    random = Random(seed)
    return [random.sample(words, len(words)) for words in (s.column("FORM") for s in sentences)]


def share_of_trees(trees: Sequence[Tree]) -> float:
    """The share of answers in which all words hang on exactly one root."""
    return sum(is_tree(tree.heads) for tree in trees) / len(trees)


def is_tree(heads: Sequence[int]) -> bool:
    """Whether one word has no head, and all others hang on it.

    Example:
        >>> is_tree([2, 0, 2]), is_tree([2, 1, 0]), is_tree([0, 0])
        (True, False, False)
    """
    hanging = {word for word, head in enumerate(heads, 1) if head == 0}
    if len(hanging) != 1:
        return False
    while new := {word for word, head in enumerate(heads, 1) if head in hanging} - hanging:
        hanging |= new
    return len(hanging) == len(heads)


def _draw(results: Results, asked: Sequence[Sentence], trees: Sequence[Tree], scores: Attachment) -> None:
    sentence, tree = next(pair for pair in zip(asked, trees, strict=True) if len(pair[0]) in SHOWN_WORDS)
    words = sentence.column("FORM")
    right = sum(a == b for a, b in zip(tree.heads, sentence.heads(), strict=True))
    results.draw(
        charts.arcs(words, tree.heads, tree.relations),
        "tree",
        title="A sentence of the test and the tree that was found",
        caption="An arrow leads from a word to one that depends on it. "
        f"{right} of {len(words)} words have the right head.",
        alt=f"Arrows over the words “{' '.join(words)}”.",
    )
    by_length = scores.by_length()
    panel = Panel("by the length of a sentence", y="share of words", y_range=(0.0, 1.15))
    panel.bars(
        list(by_length), {name.upper(): [v[name] for v in by_length.values()] for name in ("uas", "las")}
    )
    results.draw(
        charts.figure(panel),
        "length",
        title="Short and long sentences",
        caption="The share of words of test sentences with the right head (UAS), and with the right relation "
        "too (LAS), by the number of words of the sentence.",
        alt="A pair of bars for each length of sentences, that of UAS the higher.",
    )
