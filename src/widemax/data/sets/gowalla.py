"""Gowalla check-ins: the places a user went to, and those held out."""

import gzip
from pathlib import Path

import pyarrow as pa

from widemax.data.sets import sets
from widemax.data.sets.base import DataSet, SourceFile


@sets.register("gowalla")
class Gowalla(DataSet):
    """29,858 users, 40,981 places, the split of the LightGCN paper."""

    name = "gowalla"
    title = "Gowalla check-ins, the split of LightGCN"
    description = (
        "One row a user: history holds the training places, items what is to be found: the same places in "
        "train, the held-out ones in test. Places are in the order of their ids, not of time."
    )
    licence = "none stated (SNAP Gowalla check-ins)"
    attribution = (
        "Eunjoon Cho, Seth A. Myers, Jure Leskovec: Friendship and Mobility, KDD 2011; split of Xiangnan "
        "He et al.: LightGCN, SIGIR 2020."
    )
    url = "https://github.com/gusye1234/LightGCN-PyTorch/tree/master/data/gowalla"
    files = (
        SourceFile("train.txt.gz", "71a2faabd7e5eed1c9df325798a213695c293739970a47bed0a983355f6687e3"),
        SourceFile("test.txt.gz", "9db4414306dbc518d3b81b0239515497908ecd6de09df99c6a92ba171e75b902"),
    )
    inputs = ("history",)
    target = "items"

    def prepare(self, source: Path, into: Path) -> None:
        history = _items_of_users(source / "train.txt.gz")
        for split, items in (("train", history), ("test", _items_of_users(source / "test.txt.gz"))):
            columns = {
                "user": list(items),
                "history": pa.array([history[user] for user in items], pa.list_(pa.int64())),
                "items": pa.array(list(items.values()), pa.list_(pa.int64())),
            }
            self.write(into, split, columns)


def _items_of_users(path: Path) -> dict[int, list[int]]:
    """Lines ``user item item …``; users without an item are left out."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        lines = (list(map(int, line.split())) for line in file)
        return {user: items for user, *items in lines if items}
