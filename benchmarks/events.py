"""Files of events, user and item a row, with default settings → recommendations, beside item-kNN.

Gowalla in the split of LightGCN, and Amazon Beauty as in BERT4Rec with each customer's last item held out,
whole and without users and items of fewer than five events. ``python -m benchmarks.events gowalla`` asks for
one of them.
"""

import gzip
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import report, script
from benchmarks.runs import data_folder, rounded, widemax

METRICS = "hr@10", "ndcg@10", "recall@20", "ndcg@20", "coverage@20"
PARTS = "train", "test"
COLUMNS = "--user", "user", "--item", "item"


def events(source: Path, into: Path) -> Path:
    """Lines ``user item item …`` as a CSV file of events."""
    with gzip.open(source, "rt", encoding="ascii") as lines, into.open("w", encoding="ascii") as file:
        file.write("user,item\n")
        for line in lines:
            user, *items = line.split()
            file.writelines(f"{user},{item}\n" for item in items)
    return into


def core(source: Path, into: Path, *, least: int = 5) -> Path:
    """The events that stay when users and items with fewer are left out again and again."""
    import pandas as pd

    rows = pd.read_csv(source, dtype=str)
    kept = 0
    while kept != len(rows):
        kept = len(rows)
        for name in ("user", "item"):
            rows = rows[rows.groupby(name)[name].transform("size") >= least]
    rows.to_csv(into, index=False)
    return into


def measured(name: str, train: Path, test: Path, *options: str) -> dict[str, Any]:
    """One set: what is reached, and what it takes."""
    run = str(train.with_suffix(""))
    trained = widemax("train", str(train), *COLUMNS, *options, "--out", run)
    evaluated = widemax("evaluate", run, str(test))
    values, peers = evaluated.values, {"knn": "item_knn", "popular": "baseline"}
    beside = {f"{peer}_{m}": values[key][m] for peer, key in peers.items() for m in METRICS}
    return {
        "data": name,
        "num_items": values["num_classes"],
        "train_cpu_s": round(trained.cpu_seconds, 2),
        "train_peak_mb": trained.peak_bytes // 2**20,
        "evaluate_cpu_s": round(evaluated.cpu_seconds, 2),
        "evaluate_peak_mb": evaluated.peak_bytes // 2**20,
        **{m: values[m] for m in METRICS},
        **beside,
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        places, beauty = data_folder() / "gowalla", data_folder() / "amazon_beauty"
        train, test = (events(places / f"{part}.txt.gz", Path(folder) / f"{part}.csv") for part in PARTS)
        reviews = events(beauty / "beauty.txt.gz", Path(folder) / "beauty.csv")
        often = core(reviews, Path(folder) / "often.csv")
        held_out = ("--split", "last-one")
        sets = {
            "gowalla": (train, test),
            "amazon_beauty": (reviews, reviews, *held_out),
            "amazon_beauty 5-core": (often, often, *held_out),
        }
        rows = [measured(name, *sets[name]) for name in argv or sets]
    report("events", rows, seed=0)
    shown = {row["data"]: rounded(row, (*METRICS[:4], "train_cpu_s", "evaluate_cpu_s")) for row in rows}
    ratio = min(row[m] / row[f"knn_{m}"] for row in rows for m in ("recall@20", "ndcg@10"))
    return {"benchmark": "events", "ratio": ratio, **shown}


if __name__ == "__main__":
    script(main)
