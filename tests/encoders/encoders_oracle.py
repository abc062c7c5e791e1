"""Slow, plain Python forms of what the encoders compute with arrays."""

import re
import unicodedata
from collections import Counter

from widemax.encoders.codepoints import classify, fold
from widemax.encoders.hashing import BASE, salt

MODULUS = 1 << 64


def slow_mix(key: int) -> int:
    """splitmix64's finisher, as printed in the paper."""
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 % MODULUS
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB % MODULUS
    return key ^ (key >> 31)


def slow_hash(codes: list[int]) -> int:
    """The span hash by its formula."""
    inverse = pow(BASE, -1, MODULUS)
    total = sum(code * pow(inverse, place, MODULUS) for place, code in enumerate(codes))
    return slow_mix((total + len(codes)) % MODULUS)


def horner(numbers: list[int]) -> int:
    result = 0
    for number in numbers:
        result = (result * BASE + number) % MODULUS
    return result


def bucket(hashed: int, seed: int, buckets: int) -> int:
    return (slow_mix(hashed ^ seed) >> 32) * buckets >> 32


def runs(text: str) -> list[str]:
    """Longest runs of word characters of a folded text."""
    return re.findall(r"\S+", "".join(c if classify(ord(c)) else " " for c in text))


def is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def words(text: str) -> list[str]:
    """Words of a folded text: runs, cut around characters that are words of their own."""
    found = []
    for run in runs(text):
        pieces = [run[0]]
        for character in run[1:]:
            base = next((c for c in reversed(pieces[-1]) if not is_mark(c)), "a")
            alone = classify(ord(character)) & 2 or classify(ord(base)) & 2
            if alone and not is_mark(character):
                pieces.append(character)
            else:
                pieces[-1] += character
        found += pieces
    return found


def slow_words(text: str, *, column: str, longest: int, buckets: int) -> Counter[int]:
    """Buckets of the word n-grams."""
    hashes = [slow_hash([ord(c) for c in word]) for word in words(fold(text))]
    return Counter(
        bucket(horner(hashes[i : i + n]), salt(column, f"word {n}"), buckets)
        for n in range(1, longest + 1)
        for i in range(len(hashes) - n + 1)
    )


def slow_chars(text: str, *, column: str, sizes: tuple[int, int], buckets: int) -> Counter[int]:
    """Buckets of the character n-grams of every run between two spaces; a space alone is none."""
    counts: Counter[int] = Counter()
    for run in runs(fold(text)):
        padded = f" {run} "
        for n in range(sizes[0], sizes[1] + 1):
            grams = [padded[i : i + n] for i in range(len(padded) - n + 1)]
            seed = salt(column, f"char {n}")
            counts.update(bucket(horner([ord(c) for c in g]), seed, buckets) for g in grams if g.strip(" "))
    return counts
