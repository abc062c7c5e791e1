"""``widemax verify``: every hash and shape of a run."""

from collections.abc import Sequence
from pathlib import Path

from widemax.cli.options import Json, Run, TrustedKey, Workers, print_result
from widemax.cli.workers import answer_in_several, is_first


def command(run: Run, workers: Workers = None, trusted_key: TrustedKey = None, json: Json = False) -> None:
    """Check every hash and shape of a run and of its checkpoints, or of a ranker."""
    answer_in_several(workers)
    from widemax.errors import counted
    from widemax.storage import CHECKPOINTS, HASHED, current, read_manifest
    from widemax.systems import load
    from widemax.training.checkpoint import read_progress

    manifest = read_manifest(current(run))
    checkpoints: list[Path] = []
    # Those of a finished run are what a kill has left to be removed.
    if is_first() and not manifest.get("complete", True):
        checkpoints = sorted((run / CHECKPOINTS).glob("step-*"))
    places = [current(run), *checkpoints]
    HASHED.set(hashed_in_parts([place / name for place in places for name in read_manifest(place)["files"]]))
    if not is_first():
        return
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
    for checkpoint in checkpoints:
        read_progress(checkpoint)
    names = [checkpoint.name for checkpoint in checkpoints]
    facts |= {"num_classes": model["num_classes"], "dim": model["dim"], "checkpoints": names}
    classes = f"{counted(model['num_classes'], 'class')} × {model['dim']}"
    line = f"{whole}, {classes}, {counted(len(checkpoints), 'checkpoint')}"
    print_result(facts, [line], json=json)


def hashed_in_parts(paths: Sequence[Path]) -> dict[Path, str]:
    """The SHA-256 of files, of which each of several processes reads some; none where there is one.

    They are those that the first process names: where a run still trains, checkpoints come and go.
    """
    import json

    import torch

    from widemax.config import Config
    from widemax.distributed import joined, world_size
    from widemax.storage import sha256

    if world_size() == 1:
        return {}
    with joined(Config().distributed.timeout_s) as world:
        paths = [Path(name) for name in json.loads(world.tell(json.dumps(list(map(str, paths)))))]
        digests = torch.zeros(len(paths), 32, dtype=torch.uint8)
        for place in world.in_step(range(world.rank, len(paths), world.size)):
            if paths[place].is_file():  # what is missing is said of the whole run
                digests[place] = torch.tensor([*bytes.fromhex(sha256(paths[place]))], dtype=torch.uint8)
        world.sum(digests)
    found = zip(paths, digests.tolist(), strict=True)
    return {path.resolve(): bytes(digest).hex() for path, digest in found if any(digest)}
