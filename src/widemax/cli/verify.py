"""``widemax verify``: every hash and shape of a run."""

from widemax.cli.options import Json, Run, TrustedKey, print_result


def command(run: Run, trusted_key: TrustedKey = None, json: Json = False) -> None:
    """Check every hash and shape of a run and of its checkpoints."""
    from widemax.artifact import Model
    from widemax.errors import counted
    from widemax.storage import CHECKPOINTS, current, read_manifest
    from widemax.training.checkpoint import read_progress

    model = Model.load(run, trusted_key=trusted_key)
    manifest = read_manifest(current(run))
    files = manifest["files"]
    # Those of a finished run are what a kill has left to be removed.
    checkpoints = [] if manifest["complete"] else sorted(p.name for p in (run / CHECKPOINTS).glob("step-*"))
    for name in checkpoints:
        read_progress(run / CHECKPOINTS / name)
    facts = {
        "run": str(run),
        "files": len(files),
        "bytes": sum(entry["bytes"] for entry in files.values()),
        "num_classes": model.head.num_classes,
        "dim": model.head.dim,
        "checkpoints": checkpoints,
    }
    counts = (len(files), "file"), (model.head.num_classes, "class"), (len(checkpoints), "checkpoint")
    files_are, classes_are, checkpoints_are = (counted(*count) for count in counts)
    line = (
        f"{run} is whole: {files_are}, {facts['bytes'] / 1e6:.1f} MB, "
        f"{classes_are} × {model.head.dim}, {checkpoints_are}"
    )
    print_result(facts, [line], json=json)
