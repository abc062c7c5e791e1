"""``widemax verify``: every hash and shape of a run."""

from widemax.cli.options import Json, Run, TrustedKey, print_result


def command(run: Run, trusted_key: TrustedKey = None, json: Json = False) -> None:
    """Check every hash and shape of a run and of its checkpoints, or of a ranker."""
    from widemax.errors import counted
    from widemax.storage import CHECKPOINTS, current, read_manifest
    from widemax.systems import load
    from widemax.training.checkpoint import read_progress

    manifest = read_manifest(current(run))
    files = manifest["files"]
    num_bytes = sum(entry["bytes"] for entry in files.values())
    whole = f"{run} is whole: {counted(len(files), 'file')}, {num_bytes / 1e6:.1f} MB"
    facts = {"run": str(run), "files": len(files), "bytes": num_bytes}
    if "ranker" in manifest:
        from widemax.ranking import Ranker

        features = counted(len(Ranker.load(run, trusted_key=trusted_key).features.names), "feature")
        print_result(facts, [f"{whole}, {features}"], json=json)
        return
    model = load(run, trusted_key=trusted_key).facts()
    # Those of a finished run are what a kill has left to be removed.
    checkpoints = [] if manifest["complete"] else sorted(p.name for p in (run / CHECKPOINTS).glob("step-*"))
    for name in checkpoints:
        read_progress(run / CHECKPOINTS / name)
    facts |= {"num_classes": model["num_classes"], "dim": model["dim"], "checkpoints": checkpoints}
    classes = f"{counted(model['num_classes'], 'class')} × {model['dim']}"
    line = f"{whole}, {classes}, {counted(len(checkpoints), 'checkpoint')}"
    print_result(facts, [line], json=json)
