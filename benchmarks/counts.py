"""What is a head that counts worth for items and subjects, and what does it cost beside implicit?

Gowalla, Amazon Beauty and finna_en (the first 200,000 and 20,000 rows) through the command line; and made
interactions of users with items, counted by widemax and by implicit's item-item neighbors, each in a process
of its own with one thread, where implicit is installed (``pip install 'widemax[bench]'``).
"""

import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finna_en import first_rows
from benchmarks.measure import is_quick, peak_memory_bytes, report, run_fresh, script
from benchmarks.runs import rounded, train_and_evaluate
from widemax.data import get

INTERACTIONS, ITEMS, KEEP = 10_000_000, 1_000_000, 100
PEERS = {
    "gowalla": {"recall@20": 0.156, "ndcg@20": 0.133},
    "amazon_beauty": {"hr@10": 0.035, "ndcg@10": 0.021},
    "finna_en": {"p@1": 0.3207, "p@5": 0.1446, "psp@1": 0.254},
    "finna_en names": {"p@1": 0.3207, "p@5": 0.1446, "psp@1": 0.254},
}
"""Peers as measured elsewhere: implicit's ALS (Gowalla, Beauty), Omikuji's Bonsai (finna_en)."""


def made(num_interactions: int, num_items: int) -> Any:
    """Users with 20 items each, of which a tenth is near the first one; items are as frequent as 1 / rank."""
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    num_users = num_interactions // 20
    items = (num_items ** rng.random((num_users, 20))).astype(np.int64) - 1
    near = (items[:, :1] + rng.integers(-10, 11, items.shape)) % num_items
    items = np.where(rng.random(items.shape) < 0.5, near, items)
    rows = np.repeat(np.arange(num_users), 20)
    matrix = sp.csr_matrix((np.ones(rows.size), (rows, items.ravel())), shape=(num_users, num_items))
    matrix.data[:] = 1
    return matrix


def count(peer: str, num_interactions: int, num_items: int) -> dict[str, Any]:
    """One side of the made interactions; times are of the processor."""
    matrix = made(num_interactions, num_items)
    if peer == "implicit":
        from implicit.nearest_neighbours import CosineRecommender

        started, before = time.process_time(), peak_memory_bytes()
        model = CosineRecommender(K=KEEP, num_threads=1)
        model.fit(matrix, show_progress=False)
        num_kept = model.similarity.nnz
    else:
        import torch

        from widemax.heads import CountsHead, SeveralLabels

        started, before = time.process_time(), peak_memory_bytes()
        head = CountsHead(num_items, num_items, keep=KEEP)
        offsets, ids = (torch.from_numpy(array.astype(np.int64)) for array in (matrix.indptr, matrix.indices))
        for rows in torch.arange(matrix.shape[0]).split(8192):
            labels = SeveralLabels(ids, offsets).take(rows)
            ones = torch.ones(len(labels.ids_P))
            places = torch.stack(tuple(labels.pairs()))
            size = (len(rows), num_items)
            head.partial_fit(torch.sparse_coo_tensor(places, ones, size, check_invariants=False), labels)
        head.finish()
        num_kept = len(head.weight)
    seconds = time.process_time() - started
    return {"cpu_s": seconds, "added_mb": (peak_memory_bytes() - before) / 2**20, "num_kept": num_kept}


def one_set(name: str) -> dict[str, Any]:
    """Train on a data set and evaluate on its test rows, with default settings."""
    options = ("--set", "head.kind=counts")
    if name == "finna_en names":
        options = (*options, "--classes", str(get("finna_en") / "subjects.parquet"))
    if not name.startswith("finna_en"):
        # All that comes before a customer's last item is counted.
        target, more = {"gowalla": ("items", []), "amazon_beauty": ("item", ["amazon_beauty:valid"])}[name]
        options = (*more, "--input", "history", *options)
        return train_and_evaluate(name, f"{name}:test", target, *options, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        train, test = first_rows(Path(folder), "train", 200_000), first_rows(Path(folder), "test", 20_000)
        return train_and_evaluate(train, test, "subjects", *options, seed=0)


def main(argv: Sequence[str]) -> dict[str, Any]:
    if argv and argv[0] == "--count":
        return count(argv[1], *map(int, argv[2:]))
    summary: dict[str, Any] = {"benchmark": "counts"}
    chosen = argv or (*PEERS, "made")
    for name, peer in PEERS.items():
        if name in chosen:
            result = one_set(name)
            report("counts", [{"data": name, **result}], seed=0)
            names = (*peer, "train_cpu_s", "train_peak_mb", "evaluate_s")
            summary |= {f"{name} {key}": value for key, value in rounded(result, names).items()}
            summary |= {f"{name} peer {key}": value for key, value in peer.items()}
    if "made" in chosen:
        sizes = [str(size // 10 if is_quick() else size) for size in (INTERACTIONS, ITEMS)]
        peers = ("widemax", "implicit") if find_spec("implicit") else ("widemax",)
        sides = {peer: run_fresh("benchmarks.counts", "--count", peer, *sizes) for peer in peers}
        report("counts", [{"data": "made", "peer": peer, **side} for peer, side in sides.items()], seed=0)
        for peer, side in sides.items():
            summary |= {f"made {peer} {key}": value for key, value in rounded(side, tuple(side)).items()}
        if "implicit" in sides:
            summary["ratio"] = sides["widemax"]["cpu_s"] / sides["implicit"]["cpu_s"]
    return summary


if __name__ == "__main__":
    script(main)
