"""20 Newsgroups by date: Usenet posts and the group they were sent to."""

import gzip
import json
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet


@sets.register("newsgroups20")
class Newsgroups20(PublicSet):
    """11,314 training and 7,532 later test posts; headers, signatures and quotations are kept."""

    name = "newsgroups20"
    title = "20 Newsgroups, split by date"
    licence = "none stated (public Usenet posts)"
    attribution = (
        "Ken Lang: NewsWeeder: Learning to filter netnews, ICML 1995; by-date split by Jason Rennie."
    )
    url = "http://qwone.com/~jason/20Newsgroups/"
    files = {
        "20news-bydate-train.jsonl.gz": "763b248d0ec621dad921a5465e6526d9ffd58a13ee0d6977d99832fe4931b7b4",
        "20news-bydate-test.jsonl.gz": "69a38e241bea633c52dd37e863117ce306c8c2ed8ec220f92ac8cc4ec2f1499d",
    }
    inputs = ("text",)
    target = "group"

    def prepare(self, source: Path, into: Path) -> None:
        for split in self.splits:
            with gzip.open(source / f"20news-bydate-{split}.jsonl.gz", "rt", encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
            self.write(into, split, {name: [row[name] for row in rows] for name in ("text", "group")})
