"""Amazon Beauty: what a customer reviews next."""

import gzip
from collections import defaultdict
from pathlib import Path

import pyarrow as pa

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github

_SHORTEST = 3  # one item to train on, one to validate, one to test


@sets.register("amazon_beauty")
class AmazonBeauty(PublicSet):
    """40,226 customers in time order; leave one out.

    history holds the items before, item the next one. A customer's last item is the test, the one before the
    validation, and every earlier item but the first gives a training row.
    """

    title = "Amazon Beauty, as in BERT4Rec"
    licence = "research use (Amazon reviews, McAuley)"
    attribution = (
        "Julian McAuley et al.: Image-based recommendations on styles and substitutes, SIGIR 2015; as packed "
        "by Fei Sun et al.: BERT4Rec, CIKM 2019."
    )
    url = "https://github.com/FeiSun/BERT4Rec"
    files = {"beauty.txt.gz": "f480b7a7403852342ffd8f9809bb30697dd669be31813d0e204b698fec86ef49"}
    downloads = on_github(
        "FeiSun/BERT4Rec", "615eaf2004abecda487a38d5b0c72f3dcfcae5b3", "data/", "beauty.txt"
    )
    download_bytes = 3_912_093
    splits = ("train", "valid", "test")
    inputs = ("history",)
    target = "item"

    def prepare(self, source: Path, into: Path) -> None:
        items_of = defaultdict(list)
        with gzip.open(source / "beauty.txt.gz", "rt", encoding="ascii") as file:
            for line in file:
                user, item = map(int, line.split())
                items_of[user].append(item)
        users = {user: items for user, items in items_of.items() if len(items) >= _SHORTEST}
        places = {
            "train": [(user, at) for user, items in users.items() for at in range(1, len(items) - 2)],
            "valid": [(user, len(items) - 2) for user, items in users.items()],
            "test": [(user, len(items) - 1) for user, items in users.items()],
        }
        for split, rows in places.items():
            columns = {
                "user": [user for user, _ in rows],
                "history": pa.array([users[user][:at] for user, at in rows], pa.list_(pa.int64())),
                "item": [users[user][at] for user, at in rows],
            }
            self.write(into, split, columns)
