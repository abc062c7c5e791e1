"""What a room's import may not pull in: some answer before torch has been read from the disk."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "scipy", "sklearn")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import widemax.errors, widemax.registry, widemax.storage", (*HEAVY, "numpy", "pyarrow")),
        ("import widemax.config", (*HEAVY, "numpy", "pyarrow")),
        ("import widemax.evaluation.report", HEAVY),
        ("from widemax.data import formats, sets; formats.names(); sets.names()", HEAVY),
        ("import widemax.cli", (*HEAVY, "numpy", "pyarrow")),
        ("import widemax.artifact", ("scipy", "sklearn", "torch._dynamo", "sympy")),
        (
            "import torch; from widemax.optim import LazyAdam; w = torch.nn.Parameter(torch.ones(2, 1));"
            "o = LazyAdam([w]); o.zero_grad(); w.sum().backward(); o.step()",
            ("torch._dynamo", "sympy"),
        ),
    ],
)
def test_import_stays_light(statement: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys\n{statement}\nprint(sorted({set(unwanted)} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
