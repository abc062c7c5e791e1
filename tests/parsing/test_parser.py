"""The parser: trees of any input, however its sentences are batched."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from widemax import Config
from widemax.errors import ConfigError, DataError, UsageError
from widemax.parsing import Parser
from widemax.parsing.conllu import read_conllu, sentence_of, sentences
from widemax.parsing.network import BiLSTM
from widemax.parsing.slots import CHEN_MANNING
from widemax.parsing.transitions import NONE, States, transition_systems
from widemax.parsing.vocabulary import Vocabulary


def untrained(treebank, *, columns=(), seed=0, **options):
    """A parser with random weights, large ones, so that its answers are no accident of rounding."""
    torch.manual_seed(seed)
    found = list(read_conllu(treebank))
    vocabulary = Vocabulary.of(found, columns=columns)
    small = {"form_dim": 8, "tag_dim": 8, "hidden": 8, "action_dim": 16}
    parser = Parser(Config(data={"input": columns}, parser={**small, **options}), vocabulary)
    with torch.no_grad():
        for parameter in parser.scorer.parameters():
            parameter.mul_(3)
    return parser


def assert_tree(tree):
    """Heads lead to one root, and that alone has the relation of the root."""
    assert tree.heads.count(0) == 1
    assert [relation == "root" for relation in tree.relations] == [head == 0 for head in tree.heads]
    for word in range(1, len(tree.heads) + 1):
        steps = 0
        while word:
            word, steps = tree.heads[word - 1], steps + 1
            assert steps <= len(tree.heads)


TEXTS = st.lists(
    st.lists(st.text(min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=9),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("system", transition_systems.names())
@pytest.mark.parametrize(("beam", "slots"), [(1, ("s2", "s1", "s0", "b0")), (3, CHEN_MANNING)])
@settings(max_examples=8, deadline=None)
@given(given_words=TEXTS, seed=st.integers(0, 3))
def test_any_input_gets_trees_with_one_root(treebanks, system, beam, slots, given_words, seed):
    layers = 1 if slots != CHEN_MANNING else 0
    parser = untrained(treebanks[0], seed=seed, system=system, beam=beam, slots=slots, layers=layers)
    trees = parser.parse(given_words)
    assert [len(tree.heads) for tree in trees] == [len(words) for words in given_words]
    for tree in trees:
        assert_tree(tree)


@pytest.mark.parametrize("encoder", ["lstm", "transformer"])
def test_sentences_are_parsed_alike_alone_and_in_a_batch(treebanks, encoder):
    parser = untrained(treebanks[0], encoder=encoder)
    found = [sentence.column("FORM") for sentence in read_conllu(treebanks[1])]
    together = parser.parse(found)
    assert together == [parser.parse([words])[0] for words in found]
    assert together[::-1] == parser.parse(found[::-1])


def test_what_stands_behind_a_sentence_changes_nothing():
    torch.manual_seed(0)
    encoder = BiLSTM(5, 4, layers=2, dropout=0.0)
    short, long = torch.randn(3, 1, 5), torch.randn(6, 1, 5)
    both = torch.cat([long, torch.cat([short, torch.full((3, 1, 5), 9.0)])], dim=1)
    alone = encoder(short, np.array([3]))[-1]
    torch.testing.assert_close(encoder(both, np.array([6, 3]))[-1][:3, 1:], alone)
    # As torch's own, of one layer.
    one, own = BiLSTM(5, 4, layers=1, dropout=0.0), torch.nn.LSTM(5, 4, bidirectional=True)
    names = {
        f"{name}_l0{end}": (room, f"0.{name}_l0")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for room, end in (("forwards", ""), ("backwards", "_reverse"))
    }
    state = one.state_dict()
    own.load_state_dict({name: state[f"{room}.{key}"] for name, (room, key) in names.items()})
    torch.testing.assert_close(one(short, np.array([3]))[-1], own(short)[0])


def best_by_trying_all(parser, words):
    """The tree of the largest sum of log-probabilities over every sequence of actions."""
    (sentence,) = sentences([f"{at}\t{word}".encode() + b"\t_" * 8 for at, word in enumerate(words, 1)], "x")
    read = parser.reader([sentence])
    slots, _ = parser.scorer.eval().encode(read)
    best = (-np.inf, None)

    def visit(states, total):
        nonlocal best
        if total <= best[0]:
            return
        if states.at_root[0] and not states.depth_B[0]:
            best = (total, states)
            return
        places = parser.slots.words(states)
        n = len(words)
        places = np.where(places == n, n, np.where(places == NONE, n + 1, places))
        logits = parser.scorer(slots, torch.from_numpy(places), None)[0]
        legal = parser.actions.legal(states)[0]
        log_probs = logits.masked_fill(~torch.from_numpy(legal), -torch.inf).double().log_softmax(0)
        for action in np.flatnonzero(legal):
            following = states.of(np.array([0]))
            parser.actions.apply(following, np.array([action]))
            visit(following, total + float(log_probs[action]))

    with torch.no_grad():
        visit(States.start(np.array([len(words)])), 0.0)
    heads = best[1].heads_BN[0].tolist()
    return [0 if head == len(words) else head + 1 for head in heads], best[1].relations_BN[0].tolist()


def test_a_wide_beam_finds_the_best_tree_of_all_and_a_narrow_one_is_greedy(treebanks):
    words = ["the", "dog", "sees"]
    greedy_differs = False
    for seed in range(6):
        wide = untrained(treebanks[0], seed=seed, beam=1024)
        heads, relations = best_by_trying_all(wide, words)
        (found,) = wide.parse([words])
        assert found.heads == heads
        assert found.relations == [wide.vocabulary.relations[at] for at in relations]
        (greedy,) = untrained(treebanks[0], seed=seed).parse([words])
        greedy_differs |= greedy != found
    assert greedy_differs


@torch.no_grad()
def test_the_oracle_is_followed_to_the_right_trees(treebanks):
    parser = untrained(treebanks[0])
    found = sorted(read_conllu(treebanks[0]), key=len, reverse=True)[:20]
    trees = [([h - 1 if h else len(s) for h in s.heads()], s.column("DEPREL")) for s in found]
    words = parser.reader(found)
    slots, _ = parser.scorer.encode(words)
    gold = parser.gold(found, trees)
    lesson = parser.lesson(slots, words.lengths_B, gold, explore=0.0, random=np.random.default_rng(0))
    assert len(lesson.places_BS) == 2 * words.lengths_B.sum()
    assert not (lesson.right_BA & ~lesson.legal_BA).any()
    assert lesson.right_BA.any(1).all()
    # One way alone leads along the right trees but where an arc may wait.
    wandering = parser.lesson(slots, words.lengths_B, gold, explore=1.0, random=np.random.default_rng(0))
    assert wandering.right_BA.any(1).all()
    assert wandering.right_BA.sum() != lesson.right_BA.sum()


def test_a_treebank_is_learned(learned, treebanks):
    _, parser = learned
    for sentence, tree in parser.parsed(read_conllu(treebanks[1])):
        assert tree.heads == sentence.heads()
        assert tree.relations == sentence.column("DEPREL")
    (tree,) = parser.parse([["the", "zebra", "hears", "zoe", "."]])
    assert tree.heads == [2, 3, 0, 3, 3]


def test_one_long_sentence_is_parsed(learned):
    _, parser = learned
    (tree,) = parser.parse([["dog", "sees"] * 1250])
    assert_tree(tree)


def test_sentences_are_streamed(learned):
    _, parser = learned
    asked = []

    def endless():
        while True:
            asked.append(None)
            yield from sentences([b"1\tHi" + b"\t_" * 8], "hi.conllu")

    stream = parser.parsed(endless())
    assert [next(stream)[1].heads for _ in range(3)] == [[0]] * 3
    assert len(asked) < 2000


def test_tags_are_read_where_asked_for_and_missed_where_absent(treebanks):
    parser = untrained(treebanks[0], columns=("UPOS",))
    found = list(read_conllu(treebanks[1]))
    trees = parser.parse(found)
    without = [
        next(sentences(s.text.replace("\tNOUN\t", "\tVERB\t").encode().splitlines(True), "other"))
        for s in found
    ]
    assert parser.parse(without) != trees


def test_missing_tags_are_those_that_the_parser_gives_itself(treebanks):
    parser = untrained(treebanks[0], columns=("UPOS", "FEATS"))
    found = [sentence_of(each.column("FORM")) for each in read_conllu(treebanks[1])]
    names = parser.vocabulary.tagged["UPOS"]
    given = iter([names[at] for at in parser.scorer.eval().tags(parser.reader(found))[0].tolist()])
    tagged = [sentence_of(each.column("FORM"), UPOS=[next(given) for _ in each.words]) for each in found]
    assert parser.parse(found) == parser.parse(tagged)
    assert len({tag for each in tagged for tag in each.column("UPOS")}) > 1
    # A tag that stands in the file is kept.
    halves = [sentence_of(s.column("FORM"), UPOS=["VERB"] + ["_"] * (len(s) - 1)) for s in found]
    assert parser.parse(halves) != parser.parse(found)


def test_a_parser_that_has_not_learned_to_tag_refuses_words_without_tags(treebanks):
    parser = untrained(treebanks[0], columns=("UPOS",), tagging=0.0)
    with pytest.raises(
        DataError, match=r"line 1 .*reads UPOS, and some of it is missing\. Tag the file first"
    ):
        parser.parse([["the", "dog"]])


@pytest.mark.parametrize("tagging", [0.0, 0.3])
def test_what_no_word_of_the_training_file_has_is_not_missed(treebanks, tmp_path, monkeypatch, tagging):
    file = tmp_path / "features.conllu"
    file.write_bytes(
        re.sub(rb"\t(NOUN|VERB|DET|[A-Z]+)\t_\t_\t(\d)", rb"\t_\t_\tKind=\1\t\2", treebanks[0].read_bytes())
    )
    parser = untrained(file, columns=("FEATS",), tagging=tagging)
    assert parser.vocabulary.tagged["UPOS"] == ("_",)
    monkeypatch.setattr(parser.scorer, "tags", lambda words: pytest.fail("named"))
    parser.parse([sentence_of(["the", "dog"], FEATS=["Kind=DET", "_"])])


@pytest.mark.parametrize("words", ["the dog", [], ["", "x"], [1]])
def test_what_is_no_list_of_words_is_refused(learned, words):
    with pytest.raises((DataError, UsageError)):
        learned[1].parse([words])


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("parser", "system", "arc_hybird"),
        ("parser", "slots", ("s0", "x1")),
        ("parser", "hidden", 0),
        ("parser", "hiden", 10),
        ("train", "batch_size", 10),
        ("train", "metric", "accuracy"),
        ("data", "input", ("LEMMA",)),
        ("data", "target", "HEAD"),
        ("data", "valid_fraction", 0.0),
        ("encoder", "dim", 10),
    ],
)
def test_configs_are_strict(section, key, value):
    with pytest.raises(ConfigError, match=key if key != "system" else "arc_hybrid"):
        Parser.train("train.conllu", **{section: {key: value}})


def test_words_of_one_form_share_their_ngrams(treebanks):
    parser = untrained(treebanks[0])
    found = list(read_conllu(treebanks[1]))[:3]
    words = parser.reader(found)
    forms = [form for sentence in found for form in sentence.column("FORM")]
    for (one, a), (other, b) in pairwise(zip(forms, words.distinct_W.tolist(), strict=True)):
        assert (one == other) == (a == b)
    assert len(words.ngram_starts_U) == len(set(forms))
