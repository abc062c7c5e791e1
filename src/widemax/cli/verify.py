"""``widemax verify``: every hash and shape of a run."""

from widemax.cli.options import Json, Run, TrustedKey, print_result


def command(run: Run, trusted_key: TrustedKey = None, json: Json = False) -> None:
    """Check every hash and shape of a run and of its checkpoints, or of a ranker."""
    from widemax.artifact import Model
    from widemax.errors import counted
    from widemax.language import LanguageModel
    from widemax.storage import CHECKPOINTS, current, read_manifest
    from widemax.task import System
    from widemax.training.checkpoint import read_progress
    from widemax.translation import Translator

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
    if manifest.get("task") == System.PARSING:
        from widemax.parsing import Parser

        actions = counted(len(Parser.load(run, trusted_key=trusted_key).actions), "action")
        print_result(facts, [f"{whole}, {actions}"], json=json)
        return
    model: Model | Translator | LanguageModel
    if manifest.get("task") == System.TRANSLATE:
        model = Translator.load(run, trusted_key=trusted_key)
    elif manifest.get("task") == System.LANGUAGE:
        model = LanguageModel.load(run, trusted_key=trusted_key)
    else:
        model = Model.load(run, trusted_key=trusted_key)
    # Those of a finished run are what a kill has left to be removed.
    checkpoints = [] if manifest["complete"] else sorted(p.name for p in (run / CHECKPOINTS).glob("step-*"))
    for name in checkpoints:
        read_progress(run / CHECKPOINTS / name)
    facts |= {"num_classes": model.head.num_classes, "dim": model.head.dim, "checkpoints": checkpoints}
    classes = f"{counted(model.head.num_classes, 'class')} × {model.head.dim}"
    line = f"{whole}, {classes}, {counted(len(checkpoints), 'checkpoint')}"
    print_result(facts, [line], json=json)
