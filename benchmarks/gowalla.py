"""Places a user went to → places held out, ranked among all 40,981, beside the most popular places."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measure import report, script
from benchmarks.runs import rounded, train_and_evaluate

K = 20
OPTIONS = ("--input", "history", "--set", "head.kind=sampled")


def most_popular() -> dict[str, float]:
    """Everyone is offered the places with most visitors, except those already seen."""
    import pyarrow.parquet as pq

    from widemax.data import resolve

    test = pq.read_table(resolve(["gowalla:test"])[0]).to_pylist()
    visits = np.bincount(np.concatenate([row["history"] for row in test]))
    popular = np.argsort(-visits, kind="stable").tolist()
    discounts = 1 / np.log2(np.arange(2, K + 2))
    recalls, gains = [], []
    for row in test:
        seen, wanted = set(row["history"]), set(row["items"])
        offered = [place for place in popular[: K + len(seen)] if place not in seen][:K]
        hits = np.array([place in wanted for place in offered])
        recalls.append(hits.sum() / len(wanted))
        gains.append((hits * discounts).sum() / discounts[: len(wanted)].sum())
    return {"recall@20": float(np.mean(recalls)), "ndcg@20": float(np.mean(gains))}


def main(argv: Sequence[str]) -> dict[str, Any]:
    peer = most_popular()
    result = train_and_evaluate("gowalla", "gowalla:test", "items", *OPTIONS, seed=0)
    result |= {f"peer_{name}": value for name, value in peer.items()}
    report("gowalla", [result], seed=0)
    names = ("recall@20", "ndcg@20", "train_s", "evaluate_s", "peer_recall@20", "peer_ndcg@20")
    return {
        "benchmark": "gowalla",
        "ratio": result["recall@20"] / peer["recall@20"],
        **rounded(result, names),
    }


if __name__ == "__main__":
    script(main)
