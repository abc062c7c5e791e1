"""The page in the package is what its source builds, and its units pass their own tests."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
SOURCE = REPOSITORY / "studio"
BUILT = REPOSITORY / "src" / "widemax" / "serving" / "static"
MOST_KB = 150


def npx(*command: str) -> None:
    """Run a tool of the page's build.

    It is skipped where Node is absent or too old, or the tools are not installed.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node: apt-get install nodejs npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (20, 19):
        pytest.skip(f"Node {version.strip()} is older than 20.19")
    if not (SOURCE / "node_modules").is_dir():
        pytest.skip("the tools are not installed: npm ci --prefix studio")
    done = subprocess.run(
        ["npx", "--no-install", *command], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_committed_page_is_built_from_its_source(tmp_path: Path) -> None:
    npx("vite", "build", "--outDir", str(tmp_path / "built"))
    assert files(tmp_path / "built") == files(BUILT), "build it again: npm run build --prefix studio"


def test_units_of_the_page() -> None:
    npx("vitest", "run")


@pytest.mark.slow
def test_types_of_the_page() -> None:
    npx("svelte-check", "--tsconfig", "tsconfig.json", "--fail-on-warnings")


def test_the_page_is_small_and_asks_for_nothing_else() -> None:
    import gzip

    built = files(BUILT)
    assert sum(len(gzip.compress(content)) for content in built.values()) < MOST_KB * 1000
    text = built["index.html"].decode() + built["index.css"].decode()
    assert re.findall(r"(?:src|href)=\"(?!\./)[^\"]*\"|url\((?!\./)[^)]*\)|@import", text) == []


def test_the_page_has_the_colors_of_the_report() -> None:
    from widemax.charts.style import COLORS, DARK_COLORS
    from widemax.evaluation.report.style import PAGE

    style = (SOURCE / "src" / "style.css").read_text("utf-8")
    tokens = {
        name: (light, dark) for name, light, dark in re.findall(r"--(\w+): light-dark\((\S+), (\S+)\)", style)
    }
    assert [tokens[f"c{place}"] for place in range(10)] == list(zip(COLORS, DARK_COLORS, strict=True))
    light, dark = re.findall(r"--page: .*", PAGE)
    for scheme, line in enumerate((light, dark)):
        for name, color in re.findall(r"--(\w+): (#\w+);", line):
            assert tokens[name][scheme] == color
