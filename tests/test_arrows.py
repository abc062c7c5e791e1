"""The rooms import one another only along the arrows of docs/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "widemax"

GROUND = {"classes", "docstrings", "errors", "options", "registry", "task"}
ARROWS = {
    "__init__": None,
    "__main__": {"cli"},
    "errors": set(),
    "classes": {"errors", "options"},
    "options": {"errors"},
    "docstrings": set(),
    "registry": {"docstrings", "errors", "options"},
    "task": {"errors"},
    "config": {"errors", "options", "registry", "task"},
    "storage": {"errors"},
    "packing": {"errors"},
    "signatures": {"errors", "storage"},
    "numerics": GROUND,
    "optim": {*GROUND, "native", "storage"},
    "charts": set(),
    "conformity": GROUND,
    "evaluation": {*GROUND, "charts", "conformity"},
    "data": {*GROUND, "storage"},
    "losses": {*GROUND, "numerics"},
    "samplers": {*GROUND, "numerics"},
    "auxiliaries": {*GROUND, "losses", "numerics"},
    "encoders": {*GROUND, "native", "numerics", "sequences", "storage"},
    "sequences": {*GROUND, "numerics"},
    "native": {"errors", "threads"},
    "kernels": {*GROUND, "losses", "native", "numerics"},
    "heads": {*GROUND, "losses", "samplers", "kernels", "native", "numerics", "solvers"},
    "distributed": {
        *GROUND,
        *("artifact", "encoders", "heads", "kernels", "losses", "numerics", "samplers", "storage"),
    },
    "testing": {*GROUND, "losses", "samplers", "heads", "optim", "numerics"},
    "search": {*GROUND, "kernels", "native", "numerics"},
    "neighbors": {*GROUND, "heads", "kernels", "search"},
    "solvers": {*GROUND, "losses", "native", "numerics"},
    "estimators": {
        *GROUND,
        *("heads", "samplers", "solvers", "optim", "search", "evaluation", "numerics", "storage"),
        *("devices", "threads"),
    },
    "threads": set(),
    "devices": {"errors"},
    "machine": {"storage", "threads"},
    "planner": {*GROUND, "heads", "optim", "kernels", "config", "machine", "threads"},
    "artifact": {
        *GROUND,
        *("heads", "encoders", "data", "config", "devices", "neighbors", "storage", "signatures", "packing"),
        *("conformity", "systems"),
    },
    "predictor": {*GROUND, "artifact"},
    "exports": {*GROUND, "artifact", "heads", "storage"},
    "recommender": {*GROUND, "artifact", "data", "heads", "kernels"},
    "ranking": {*GROUND, "artifact", "data", "heads", "recommender", "signatures", "solvers", "storage"},
    "training": {
        *GROUND,
        *("heads", "encoders", "optim", "kernels", "charts", "data", "evaluation", "artifact"),
        *("neighbors", "planner", "config", "devices", "distributed", "solvers", "storage", "systems"),
        *("conformity", "threads"),
    },
    "language": {
        *GROUND,
        *("artifact", "config", "data", "evaluation", "heads", "optim", "sequences", "signatures"),
        *("devices", "storage", "training"),
    },
    "parsing": {
        *GROUND,
        *("artifact", "charts", "config", "data", "devices", "encoders", "losses", "optim", "signatures"),
        *("sequences", "storage", "threads", "training"),
    },
    "translation": {
        *GROUND,
        *("artifact", "config", "data", "evaluation", "heads", "optim", "sequences", "signatures"),
        *("devices", "storage", "training"),
    },
    "systems": {"config", "errors", "storage", "task"},
    "recipes": {
        *GROUND,
        *("estimators", "training", "heads", "auxiliaries", "encoders", "data", "evaluation", "search"),
        *("losses", "numerics", "optim", "kernels", "charts", "storage"),
        *("artifact", "config", "language", "parsing", "ranking", "recommender", "sequences"),
        "translation",
    },
    "serving": {
        *GROUND,
        *(
            "artifact",
            "config",
            "data",
            "evaluation",
            "encoders",
            "heads",
            "recommender",
            "storage",
            "systems",
            "training",
        ),
        *("auxiliaries", "charts", "losses", "numerics", "optim", "parsing", "samplers"),
    },
    "cli": None,
}
"""Room to the rooms it may import; None is any room."""


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """Rooms that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        modules = []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            if node.module == "widemax":
                modules = [f"widemax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            if module.startswith("widemax."):
                yield module.split(".")[1]


def violations(room: str, source: str) -> list[str]:
    allowed = ARROWS[room]
    return (
        [] if allowed is None else sorted({to for to in imports(source) if to != room and to not in allowed})
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_follows_the_arrows(path: Path) -> None:
    assert violations(room_of(path), path.read_text(encoding="utf-8")) == []


def test_a_wrong_arrow_is_found() -> None:
    assert violations("evaluation", "def f():\n    from widemax.training.loop import train\n") == ["training"]
    assert violations("losses", "from widemax import heads\n") == ["heads"]
