"""``widemax audit``: each sampler's gradient beside the exact one, on a run's own data and model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from widemax.cli.options import Json, Run, TrustedKey, parse_columns, print_result
from widemax.errors import DataError, UsageError, counted

if TYPE_CHECKING:
    from torch import Tensor

    from widemax.artifact import Model
    from widemax.heads import Correction, Labels, LinearHead
    from widemax.testing.audit import Audit


def command(
    run: Run,
    data: Annotated[
        list[str] | None, typer.Argument(help="Rows to measure on. Default: the run's own training data.")
    ] = None,
    num_sampled: Annotated[
        int | None,
        typer.Option(min=1, help="Draws per batch. Default: a quarter of the classes, at most 8192."),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="How many rows are measured together.")] = 128,
    draws: Annotated[int, typer.Option(min=2, help="How often each sampler draws.")] = 64,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="Samplers, as a,b or by repeating the option. Default: all of them."),
    ] = None,
    correction: Annotated[
        list[str] | None,
        typer.Option(help="Any of none, conditional, importance, refined. Default: conditional,importance."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a chart of bias against cost to this file, FILE.svg.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the draws.")] = 0,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Measure each sampler's gradient bias, variance and cost against the exact softmax; recommend one."""
    if plot is not None and plot.suffix.lower() != ".svg":
        raise UsageError(
            f"--plot writes SVG, which browsers show; name a file that ends in .svg, not {plot}."
        )
    import torch

    from widemax.artifact import Model
    from widemax.evaluation.report.charts import AUDIT_HEADING, audit_chart
    from widemax.storage import write_file
    from widemax.testing.audit import audit_samplers

    model = Model.load(run, trusted_key=trusted_key)
    head = model.head
    if not head.has_weight_rows:
        raise UsageError(
            f"audit needs a head with one weight row a class; {run} has the head "
            f"{model.config.head.kind!r}. Train one with --set head.kind=sampled or exact."
        )
    hidden_BD, labels = random_rows(model, data, batch, seed)
    audit = audit_samplers(
        cast("LinearHead", head),
        hidden_BD,
        labels,
        torch.from_numpy(model.vocabulary.counts),
        num_sampled=num_sampled or min(8192, max(1, head.num_classes // 4)),
        specs=parse_columns(sampler) or None,
        corrections=cast("list[Correction]", parse_columns(correction)) or None,
        num_draws=draws,
        seed=seed,
    )
    if plot is not None:
        heading = f"{AUDIT_HEADING}\nrecommended: {audit.recommended}"
        write_file(plot, audit_chart(audit.to_dict(), heading).file(AUDIT_HEADING))
    print_result(audit.to_dict(), lines(audit), json=json)


def random_rows(model: "Model", data: Sequence[str] | None, count: int, seed: int) -> "tuple[Tensor, Labels]":
    """Hidden vectors and labels of random rows whose labels the model knows."""
    import torch

    from widemax.data import Dataset, Reading, resolve
    from widemax.heads import SeveralLabels
    from widemax.training.feed import encode_labels

    sources = resolve(data or model.config.data.train)
    dataset = Dataset(sources, model.schema, format=Reading.of(model.config.data), drop_bad=True)
    batch = dataset.sample(count, seed=seed)
    labels = encode_labels(model.vocabulary, batch.labels, several=model.schema.several)
    if isinstance(labels, SeveralLabels):
        pairs = labels.pairs()
        known_B = torch.ones(len(batch), dtype=torch.bool).index_fill(0, pairs.rows_P[pairs.ids_P < 0], False)
        known = known_B.nonzero().flatten()
        labels = labels.take(known)
    else:
        known = (labels >= 0).nonzero().flatten()
        labels = labels[known]
    if not len(known):
        raise DataError(f"{', '.join(map(str, sources))}: no row has labels that the run knows.")
    return model.hidden(batch.take(known.numpy()).columns), labels


def lines(audit: "Audit") -> Iterator[str]:
    """The audit as a table for people, then the recommendation."""
    sizes = counted(audit.num_sampled, "draw"), counted(audit.num_classes, "class")
    yield (
        f"{' of '.join(sizes)} for {counted(audit.batch_size, 'row')}, {counted(audit.num_draws, 'time')}; "
        "errors of the gradient relative to the exact one's norm"
    )
    yield (
        f"{'sampler':<18} {'correction':<11} {'candidates':>10} {'bias':>7} {'spread':>7} {'KL(q‖p)':>8} "
        f"{'effective':>9} {'a step':>9}  error at equal time"
    )
    for row in audit.rows:
        divergence = "" if row.kl_nats is None else f"{row.kl_nats:.3f}"
        yield (
            f"{row.sampler:<18} {row.correction:<11} {row.num_candidates:>10,.0f} {row.bias:>7.4f} "
            f"{row.deviation:>7.4f} {divergence:>8} {row.effective_samples:>9.1f} "
            f"{row.step_s * 1e3:>6.2f} ms  {row.error_at_equal_time:.4f}"
            + (" (expected counts approximate)" if row.approximation else "")
        )
    yield f"{'exact':<18} {'':<11} {audit.num_classes:>10,} {'':>35} {audit.exact_step_s * 1e3:>6.2f} ms"
    yield f"recommended: {audit.recommended}: {audit.reason}"
