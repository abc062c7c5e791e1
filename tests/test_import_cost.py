"""What a room's import may not pull in: some answer before torch has been read from the disk."""

import json
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
        (
            "import contextlib, pathlib, tempfile; folder = pathlib.Path(tempfile.mkdtemp());"
            "(folder / 'a.csv').write_text('text,label\\n' + 'tea,a\\nink,b\\n' * 20);"
            "from widemax.cli import main\n"
            "sys.argv = ['widemax', 'train', str(folder / 'a.csv'), '--target', 'label',"
            " '--out', str(folder / 'run'), '--set', 'train.epochs=1']\n"
            "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr): main()\n"
            "assert (folder / 'run' / 'manifest.json').is_file()",
            ("pandas", "sklearn", "torch._dynamo", "sympy"),
        ),
    ],
)
def test_import_stays_light(statement: str, unwanted: tuple[str, ...]) -> None:
    assert loaded_unasked((statement, unwanted)) == [[]]


def loaded_unasked(*steps: tuple[str, tuple[str, ...]]) -> list[list[str]]:
    """What a process has loaded, of what it should not, after each of its steps."""
    code = "".join(
        f"{statement}\nprint(json.dumps(sorted({set(unwanted)} & set(sys.modules))))\n"
        for statement, unwanted in steps
    )
    told = subprocess.check_output([sys.executable, "-c", f"import json, sys\n{code}"], text=True)
    return [json.loads(line) for line in told.splitlines()]


def test_steps_stay_light() -> None:
    """One after the other in one process, since torch takes long to load."""
    steps = (
        ("import widemax.artifact", ("scipy", "sklearn", "torch._dynamo", "sympy")),
        (
            "import torch; from widemax.kernels import not_traced; not_traced(len)([]);"
            "from widemax.optim import LazyAdam; w = torch.nn.Parameter(torch.ones(2, 1));"
            "o = LazyAdam([w]); o.zero_grad(); w.sum().backward(); o.step();"
            "o.load_state_dict(o.state_dict())",
            ("torch._dynamo", "sympy"),
        ),
    )
    assert loaded_unasked(*steps) == [[]] * len(steps)
