"""What counts as a tree, and which arcs lifting keeps."""

from itertools import product

import pytest

from widemax.parsing import Sentence, Tree
from widemax.parsing.conllu import sentences
from widemax.recipes.parser_ewt import is_tree, kept, mixed, share_of_trees


def sentence(heads: list[int]) -> Sentence:
    lines = [f"{n}\tw{n}\t_\t_\t_\t_\t{head}\tr{n}\t_\t_".encode() for n, head in enumerate(heads, 1)]
    (read,) = sentences(lines, "made.conllu")
    assert isinstance(read, Sentence)
    return read


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_there_are_as_many_trees_as_cayley_counted(length: int) -> None:
    """n^(n-1) rooted trees over n words."""
    found = sum(is_tree(heads) for heads in product(range(length + 1), repeat=length))
    assert found == length ** (length - 1)


def test_shares_are_of_all_answers_and_arcs() -> None:
    assert share_of_trees([Tree([0, 1], ["root", "obj"]), Tree([2, 1], ["obj", "obj"])]) == 0.5
    assert kept([sentence([0, 1, 2]), sentence([3, 4, 0, 3])]) == 1.0


def test_shuffled_words_are_the_same_words() -> None:
    (words,) = mixed([sentence([0, 1, 1, 1, 1])], seed=0)
    assert sorted(words) == ["w1", "w2", "w3", "w4", "w5"]
    assert words != sorted(words)
