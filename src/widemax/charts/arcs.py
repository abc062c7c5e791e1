"""Named arcs from words to words over a line of text."""

from collections.abc import Sequence

from widemax.charts.drawing import Drawing, text, text_width

_GAP, _LEVEL, _BELOW = 16, 26, 22
"""Pixels between words, from one level of arcs to the next, and of the line of words."""


def arcs(words: Sequence[str], heads: Sequence[int], names: Sequence[str]) -> Drawing:
    """A tree of dependencies: an arrow from each word's head to the word, its name above.

    Args:
        words: N words.
        heads: number of each word's head from 1; 0 for the root, which an arrow from above points to.
        names: of the arcs.

    Example:
        >>> drawing = arcs(["I", "see", "stars"], [2, 0, 2], ["nsubj", "root", "obj"])
        >>> drawing.file("I see stars").count("<path")  # of arcs, and of their arrowheads
        6
    """
    widths = [max(text_width(word), text_width(name)) for word, name in zip(words, names, strict=True)]
    centers, right = [], 0.0
    for width in widths:
        centers.append(right + width / 2)
        right += width + _GAP
    levels = _levels(heads)
    floor = (max(levels) + 1) * _LEVEL
    lines = []
    told = [
        text(center, floor + _BELOW - 6, word, anchor="middle", css="ink")
        for center, word in zip(centers, words, strict=True)
    ]
    for word, (head, name) in enumerate(zip(heads, names, strict=True)):
        to, top = centers[word], floor - levels[word] * _LEVEL - 8
        if head == 0:
            path, place = f"M{to:.1f} {top:.1f}V{floor:.1f}", to
        else:
            # Beside the middle, so that an arrow into a word and those out of it do not meet.
            start = centers[head - 1] + (6 if head - 1 < word else -6)
            bend = min(8.0, abs(to - start) / 2) * (1 if to > start else -1)
            path = (
                f"M{start:.1f} {floor:.1f}V{top + 8:.1f}q0 -8 {bend:.1f} -8H{to - bend:.1f}"
                f"q{bend:.1f} 0 {bend:.1f} 8V{floor:.1f}"
            )
            place = (start + to) / 2
        lines.append(f'<path class="line c0" d="{path}"/>')
        lines.append(f'<path class="dots c0" d="M{to:.1f} {floor:.1f}l-4 -7h8z"/>')
        told.append(text(place, top - 4, name, anchor="middle", css="halo"))
    return Drawing("".join(lines + told), max(right - _GAP, 1.0), floor + _BELOW)


def _levels(heads: Sequence[int]) -> list[int]:
    """How high each word's arc must stand above those within it, from 1."""
    spans = [
        (min(word, head - 1), max(word, head - 1)) if head else (word, word)
        for word, head in enumerate(heads)
    ]
    levels = [1] * len(heads)
    placed: list[int] = []
    for word in sorted(
        range(len(heads)), key=lambda each: (not heads[each], spans[each][1] - spans[each][0])
    ):
        low, high = spans[word]
        if heads[word] == 0:  # its arrow stands above all that pass over it
            within = [levels[other] for other in placed if spans[other][0] <= low <= spans[other][1]]
        else:
            within = [levels[other] for other in placed if spans[other][0] < high and low < spans[other][1]]
        levels[word] = 1 + max(within, default=0)
        placed.append(word)
    return levels
