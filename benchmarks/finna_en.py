"""Library title → several of 24,931 subjects: the first 200,000 training and 20,000 test rows.

The peers were measured on another two-core machine with these rows; their figures are printed beside ours.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import report, script
from benchmarks.runs import rounded, train_and_evaluate

PEERS = {  # P@1, P@3, P@5, PSP@1, PSP@5, seconds of training
    "Omikuji, Bonsai-like": (0.3207, 0.1976, 0.1446, 0.254, 0.303, 165),
    "Omikuji, Parabel-like": (0.3136, 0.1912, 0.1383, 0.248, 0.287, 49),
    "PECOS XR-Linear": (0.3098, 0.1872, 0.1350, 0.247, 0.282, 31),
    "napkinXC PLT": (0.2963, 0.1844, 0.1355, 0.229, 0.275, 70),
    "fastText hs": (0.169, 0.093, 0.066, 0.131, 0.133, 34),
}
LOSSES = ("binary_cross_entropy", "cross_entropy")
NAMES = ("p@1", "p@3", "p@5", "psp@1", "psp@5", "train_s", "train_peak_mb", "evaluate_s")


def first_rows(folder: Path, split: str, num_rows: int) -> str:
    import pyarrow.parquet as pq

    from widemax.data import resolve

    path = folder / f"{split}.parquet"
    pq.write_table(pq.read_table(resolve([f"finna_en:{split}"])[0]).slice(0, num_rows), path)
    return str(path)


def main(argv: Sequence[str]) -> dict[str, Any]:
    summary: dict[str, Any] = {"benchmark": "finna_en"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = first_rows(folder, "train", 200_000), first_rows(folder, "test", 20_000)
        for loss in LOSSES:
            options = ("--set", "head.kind=sampled", "--set", f"head.loss={loss}", "--time-limit", "4m")
            result = {"loss": loss} | train_and_evaluate(train, test, "subjects", *options, seed=0)
            report("finna_en", [result], seed=0)
            summary |= {f"{loss} {name}": value for name, value in rounded(result, NAMES).items()}
    best = max(PEERS, key=lambda peer: PEERS[peer][0])
    p_at_1 = max(summary[f"{loss} p@1"] for loss in LOSSES)
    return summary | {"ratio": p_at_1 / PEERS[best][0], f"{best} p@1": PEERS[best][0]}


if __name__ == "__main__":
    script(main)
