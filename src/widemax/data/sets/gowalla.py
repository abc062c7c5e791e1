"""Gowalla check-ins: the places a user went to, and those held out."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github

FOLDS = 5


@sets.register("gowalla")
class Gowalla(PublicSet):
    """29,858 users, 40,981 places, the split of the LightGCN paper.

    test has one row a user: history holds the training places, items the held-out ones. train asks the same
    question of the training places alone: five rows a user, each hiding another random fifth of them, so that
    every training place is to be found once. Places come in the order of their ids, not of time.
    """

    title = "Gowalla check-ins, the split of LightGCN"
    licence = "none stated (SNAP Gowalla check-ins)"
    attribution = (
        "Eunjoon Cho, Seth A. Myers, Jure Leskovec: Friendship and Mobility, KDD 2011; split of Xiangnan "
        "He et al.: LightGCN, SIGIR 2020."
    )
    url = "https://github.com/gusye1234/LightGCN-PyTorch/tree/master/data/gowalla"
    files = {
        "train.txt.gz": "0f086326b28a56c2e6dcb81d86ee72d4ccb7eed3a8d26788392356d8f51111cc",
        "test.txt.gz": "099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
    }
    downloads = on_github(
        "gusye1234/LightGCN-PyTorch",
        "947ca2b3b1d2d3545b114145710cb06c4e57b3d2",
        "data/gowalla/",
        "train.txt",
        "test.txt",
    )
    download_bytes = 7_000_000
    inputs = ("history",)
    target = "items"

    def assemble(self, fetched: Path, into: Path) -> None:
        """Sorts the places of each line of train.txt, whose order says nothing."""
        super().assemble(fetched, into)
        plain, packed = fetched / "train.txt", into / "train.txt.gz"
        with plain.open(encoding="ascii") as lines, gzip.open(packed, "wt", encoding="ascii") as sorted_lines:
            for line in lines:
                user, *items = map(int, line.split())
                sorted_lines.write(" ".join(map(str, (user, *sorted(items)))) + "\n")

    def prepare(self, source: Path, into: Path) -> None:
        known = _items_of_users(source / "train.txt.gz")
        held_out = _items_of_users(source / "test.txt.gz")
        test = [(user, known[user], items) for user, items in held_out.items()]
        train = [row for user, items in known.items() for row in _hide_fifths(user, items)]
        for split, rows in (("train", train), ("test", test)):
            users, histories, items = zip(*rows, strict=True)
            lists = {
                name: pa.array(values, pa.list_(pa.int64()))
                for name, values in (("history", histories), ("items", items))
            }
            self.write(into, split, {"user": list(users), **lists})


def _hide_fifths(user: int, items: list[int]) -> Iterator[tuple[int, list[int], list[int]]]:
    """Rows (user, history, hidden items); the user's number seeds the split."""
    fold_P = np.random.default_rng(user).permutation(len(items)) % FOLDS
    for fold in range(min(FOLDS, len(items))):
        hidden = [item for item, number in zip(items, fold_P, strict=True) if number == fold]
        yield user, [item for item, number in zip(items, fold_P, strict=True) if number != fold], hidden


def _items_of_users(path: Path) -> dict[int, list[int]]:
    """Lines ``user item item …``; users without an item are left out."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        lines = (list(map(int, line.split())) for line in file)
        return {user: items for user, *items in lines if items}
