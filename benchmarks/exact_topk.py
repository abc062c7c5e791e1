"""How fast is the exact top k of many vectors?

    python -m benchmarks.exact_topk [batch | one | knn]

``batch`` and ``one`` search 1,000,000 vectors of 64 dimensions for the 10 best of 1,024 queries and of one;
``knn`` classifies MNIST by its 5 nearest images. Everybody runs in one process, in turn; times are medians.
The peers: torch's product and top k, at once and in pieces that fit the cache better; NumPy; faiss, where it
is installed; scikit-learn's brute force. Each row also holds what the machine can do: copying and products of
float32, bfloat16 and 8-bit numbers, and how much of widemax's time the 8-bit products alone would take, or
for one query the reading of the codes. The summary's ratio is the worst of those to the fastest peer of each
question.
"""

import gzip
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import ROOT, is_quick, report, script
from widemax import native
from widemax.search import ExactIndex

SEED = 0
ROUNDS = 5
NUM_VECTORS, DIM, NUM_QUERIES, K = 1_000_000, 64, 1024, 10
# scikit-learn needs tens of seconds for all 10,000.
KNN_QUERIES = 1000
PEER_ROWS = 64


def medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each call, all in turn in every round; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range((2 if is_quick() else ROUNDS) + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def floors() -> dict[str, float]:
    """Copied GB/s, and 10^9 operations/s of products that stay in the cache, the way the scan takes them."""
    data = torch.ones(2**26)
    target = torch.empty_like(data)
    tiles = [torch.ones(8192, DIM, dtype=dtype) for dtype in (torch.float32, torch.bfloat16, torch.int8)]
    float32, bfloat16, int8 = tiles
    seconds = medians(
        {
            "copy": lambda: target.copy_(data),
            "float32": lambda: torch.mm(float32[:256], float32.T),
            "bfloat16": lambda: torch.mm(bfloat16[:256], bfloat16.T),
            "int8": lambda: torch._int_mm(int8[:256], int8.T),
        }
    )
    copy_gbps = 2 * data.nbytes / seconds.pop("copy") / 1e9
    operations = 2 * 256 * 8192 * DIM
    return {"copy_gbps": copy_gbps} | {f"{name}_gops": operations / s / 1e9 for name, s in seconds.items()}


def compare(
    question: str, calls: Mapping[str, Callable[[], object]], num_products: int, **facts: Any
) -> list[dict[str, Any]]:
    """One row a peer: times, their ratio, and the share of widemax's time that its 8-bit work alone needs."""
    seconds, limits = medians(calls), floors()
    least_s = num_products / (limits["copy_gbps"] if question == "one" else limits["int8_gops"] / 2) / 1e9
    own_s = seconds.pop("widemax")
    return [
        {
            "question": question,
            "peer": peer,
            "widemax_s": own_s,
            "peer_s": peer_s,
            "ratio": own_s / peer_s,
            "floor_share": least_s / own_s,
            **facts,
            **limits,
        }
        for peer, peer_s in seconds.items()
    ]


def with_faiss(calls: dict[str, Callable[[], object]], kind: str, vectors: Any, queries: Any, k: int) -> None:
    """Adds faiss to the calls where it is installed."""
    if find_spec("faiss"):
        import faiss

        flat = getattr(faiss, kind)(vectors.shape[1])
        flat.add(vectors)
        calls["faiss"] = lambda: flat.search(queries, k)


def gaussian(question: str, num_queries: int) -> list[dict[str, Any]]:
    torch.manual_seed(SEED)
    vectors, queries = torch.randn(NUM_VECTORS, DIM), torch.randn(num_queries, DIM)
    started = time.perf_counter()
    index = ExactIndex(vectors)
    build_s = time.perf_counter() - started
    truth = (queries[:PEER_ROWS].double() @ vectors.double().T).topk(K)
    exact = torch.equal(index.topk(queries, K).ids[:PEER_ROWS], truth.indices)
    calls: dict[str, Callable[[], object]] = {
        "widemax": lambda: index.topk(queries, K),
        "torch": lambda: (queries @ vectors.T).topk(K),
        "torch, in pieces": lambda: [(part @ vectors.T).topk(K) for part in queries.split(PEER_ROWS)],
    }
    if num_queries == 1:
        del calls["torch, in pieces"]
        calls["torch mv"] = lambda: (vectors @ queries[0]).topk(K)
        calls["numpy"] = lambda: np.argpartition(vectors.numpy() @ queries[0].numpy(), -K)
    with_faiss(calls, "IndexFlatIP", vectors.numpy(), queries.numpy(), K)
    # The compiled kernels read codes of 4 bits first for one query.
    num_products = num_queries * vectors.numel() // (2 if num_queries == 1 and native.takes() else 1)
    return compare(question, calls, num_products, build_s=build_s, exact=exact, accuracy="")


def mnist(part: str) -> tuple[Any, Any]:
    folder = Path(os.environ.get("WIDEMAX_DATA", ROOT.parent / "shared" / "data")) / "mnist"
    images, labels = (
        np.frombuffer(
            gzip.decompress((folder / f"{part}-{name}-ubyte.gz").read_bytes()), np.uint8, offset=head
        )
        for name, head in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return images.reshape(len(labels), -1).astype(np.float32), labels


def knn() -> list[dict[str, Any]]:
    from sklearn.neighbors import KNeighborsClassifier

    (images, labels), (queries, truth) = mnist("train"), mnist("t10k")
    started = time.perf_counter()
    index = ExactIndex(images, metric="euclidean")
    build_s = time.perf_counter() - started
    votes_BKC = torch.nn.functional.one_hot(torch.tensor(labels).long()[index.topk(queries, 5).ids])
    # Of equally frequent classes the smallest, as scikit-learn does.
    predicted = votes_BKC.sum(1).argmax(1).numpy()
    peer = KNeighborsClassifier(5, algorithm="brute").fit(images, labels)
    few = queries[:KNN_QUERIES]
    exact = bool((peer.predict(few) == predicted[:KNN_QUERIES]).all())
    calls: dict[str, Callable[[], object]] = {
        "widemax": lambda: index.topk(few, 5),
        "scikit-learn": lambda: peer.predict(few),
    }
    with_faiss(calls, "IndexFlatL2", images, few, 5)
    accuracy = float((predicted == truth).mean())
    return compare("knn", calls, len(few) * images.size, build_s=build_s, exact=exact, accuracy=accuracy)


QUESTIONS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "batch": lambda: gaussian("batch", NUM_QUERIES),
    "one": lambda: gaussian("one", 1),
    "knn": knn,
}


def main(argv: Sequence[str]) -> dict[str, Any]:
    rows = [row for name in argv or QUESTIONS for row in QUESTIONS[name]()]
    report("exact_topk", [{name: rounded(value) for name, value in row.items()} for row in rows], seed=SEED)
    ratios = {f"{row['question']} / {row['peer']}": rounded(row["ratio"]) for row in rows}
    worst = max(rows, key=lambda row: row["ratio"])
    return {
        "benchmark": "exact_topk",
        "ratio": worst["ratio"],
        "floor": worst["ratio"] * worst["floor_share"],
        "exact": all(row["exact"] for row in rows),
        "ratios": ratios,
        "floor_shares": {row["question"]: rounded(row["floor_share"]) for row in rows},
    }


def rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    script(main)
