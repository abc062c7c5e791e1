"""``widemax rank``: a second stage that orders the candidates of a run on events."""

from pathlib import Path
from typing import Annotated

import typer

from widemax.cli.options import Delimiter, DropBad, Encoding, Json, Run, TrustedKey, print_result
from widemax.errors import visible


def command(
    run: Run,
    clicks: Annotated[list[str], typer.Argument(help="Files of events after those that the run learned.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the ranker.", readable=False)],
    watch_time: Annotated[
        str | None,
        typer.Option(
            help="The column of how much a click was worth, such as seconds watched. Default: 1 each."
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="weighted_logistic, listwise_softmax or lambdarank.")
    ] = "weighted_logistic",
    candidates: Annotated[
        int, typer.Option(min=2, help="How many of the run's best items are ordered anew.")
    ] = 200,
    items: Annotated[
        list[str] | None, typer.Option(help="Files with a row for each item, whose columns are features.")
    ] = None,
    users: Annotated[
        list[str] | None, typer.Option(help="Files with a row for each user, whose columns are features.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the users that are held out.")] = 0,
    drop_bad: DropBad = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the ranker in --out.")] = False,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Learn from later clicks in which order the items that a run finds are best.

    Clicks in the time that the run was trained on are left out and counted, as it knows them already.
    """
    from widemax.artifact import Model
    from widemax.ranking import rank

    ranker = rank(
        Model.load(run, trusted_key=trusted_key),
        clicks,
        watch_time=watch_time,
        objective=objective,
        candidates=candidates,
        items=items,
        users=users,
        drop_bad=drop_bad,
        delimiter=delimiter,
        encoding=encoding,
        seed=seed,
        say=lambda sentence: typer.echo(visible(sentence), err=True),
    )
    ranker.save(out, overwrite=overwrite)
    metrics = ranker.metrics
    result = {
        "ranker": str(out),
        "objective": ranker.name,
        "candidates": ranker.num_candidates,
        "metrics": metrics,
        "weights": ranker.weights,
    }
    lines = [
        f"saved {out}: {ranker.name} over {ranker.num_candidates} candidates, {len(ranker.weights)} features",
        f"held out: {metrics['queries']:,.0f} users, with {metrics['ceiling_recall']:.1%} of what they took "
        "among their candidates",
        *(
            f"{name} {metrics[name]:.4f} (as retrieved {metrics[f'retriever_{name}']:.4f}, best possible "
            f"order {metrics[f'ceiling_{name}']:.4f})"
            for name in ("ndcg@20", "value@20")
        ),
        *(
            f"value of a candidate: expected {metrics['expected']:.4g}, observed {metrics['observed']:.4g}"
            for _ in range("expected" in metrics)
        ),
        f"next: widemax recommend {run} --ranker {out} --user USER",
    ]
    print_result(result, lines, json=json)
