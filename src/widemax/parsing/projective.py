"""Trees with crossing arcs as trees without, and back. Shapes: N words; word n is the root."""

from collections.abc import Sequence

from widemax.errors import ArgumentError

LIFTED = "↑"
"""Stands in a relation between its name and that of the head that an arc was lifted from."""


def unmarked(relation: str) -> str:
    """A relation without what :func:`lift` added.

    Example:
        >>> unmarked("nmod↑obj")
        'nmod'
    """
    return relation.split(LIFTED)[0]


def crossing(heads: Sequence[int]) -> list[int]:
    """The dependents of arcs that do not span their head's own words, the shortest arc first.

    An arc is projective when its head is above every word between its two ends.

    Args:
        heads: [N] position of each word's head, n for the root's.

    Example:
        >>> crossing([2, 3, 4, 2])  # the arc of 1 and 3 spans 2, which stands above 3
        [1]
    """
    return sorted(
        (word for word, head in enumerate(heads) if not _is_projective(heads, word, head)),
        key=lambda word: abs(heads[word] - word),
    )


def _is_projective(heads: Sequence[int], word: int, head: int) -> bool:
    # The root is above every word, wherever it stands.
    if head == len(heads):
        return True
    step = 1 if head < word else -1
    between = head + step
    while between != word:
        above = between
        while above not in (head, len(heads)):
            above = heads[above]
        if above != head:
            return False
        between += step
    return True


def lift(heads: Sequence[int], relations: Sequence[str]) -> tuple[list[int], list[str]]:
    """The nearest projective tree, whose lifted arcs name the relation of the head they came from.

    As long as arcs are not projective, the shortest is moved up to its head's head. The relation of a lifted
    word becomes ``relation↑relation of its head``.

    Args:
        heads: [N] position of each word's head, n for the root's.
        relations: [N] relation of each word to its head.

    Example:
        >>> lift([2, 3, 4, 2], ["nsubj", "obj", "root", "xcomp"])
        ([2, 2, 4, 2], ['nsubj', 'obj↑xcomp', 'root', 'xcomp'])

    Raises:
        ArgumentError: the heads are no tree.

    Source: Nivre and Nilsson, "Pseudo-Projective Dependency Parsing" (ACL 2005), the encoding "head".
    """
    _check_tree(heads)
    heads, own = list(heads), list(relations)
    relations = list(relations)
    while found := crossing(heads):
        word = found[0]
        head = heads[word]
        if LIFTED not in relations[word]:
            relations[word] = f"{own[word]}{LIFTED}{own[head]}"
        heads[word] = heads[head]
    return heads, relations


def restore(heads: Sequence[int], relations: Sequence[str]) -> tuple[list[int], list[str]]:
    """The tree that was lifted, as far as its relations tell.

    The head of a lifted word is the first word below its present head, level by level, that has the relation
    named and is not the lifted word's own dependent.

    Args:
        heads: [N] position of each word's head, n for the root's.
        relations: [N] as :func:`lift` gives them.

    Raises:
        ArgumentError: the heads are no tree.
    """
    _check_tree(heads)
    heads = list(heads)
    for word, relation in enumerate(relations):
        if LIFTED in relation:
            wanted = relation.split(LIFTED)[1]
            level = [heads[word]]
            while level:
                level = [below for below, head in enumerate(heads) if head in level and below != word]
                match = next((each for each in level if unmarked(relations[each]) == wanted), None)
                if match is not None:
                    heads[word] = match
                    break
    return heads, [unmarked(relation) for relation in relations]


def _check_tree(heads: Sequence[int]) -> None:
    """Refuse heads that do not lead from every word to the root."""
    size = len(heads)
    for word in range(size):
        above, steps = word, 0
        while above != size:
            above, steps = heads[above], steps + 1
            if not 0 <= above <= size or steps > size:
                raise ArgumentError(
                    f"heads must be positions from 0, and the root's {size}, so that every word leads to the "
                    f"root; got {list(heads)}."
                )
