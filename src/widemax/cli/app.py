"""The verbs put together, and what happens when one fails."""

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from widemax.cli import (
    audit,
    check,
    data,
    demo,
    doctor,
    evaluate,
    export,
    extend,
    init,
    neighbors,
    plan,
    predict,
    rank,
    recipe,
    recommend,
    resume,
    serve,
    sign,
    studio,
    suggest,
    train,
    verify,
    workers,
)
from widemax.cli.examples import examples
from widemax.errors import ResourceError, WidemaxError, visible

OUT_OF_MEMORY = (
    "memory ran out. Lower encoder.dim or train.batch_size, or train in several processes (--workers), each "
    "of which holds the weights of some classes."
)


def show_version(wanted: bool) -> None:
    """Answer ``widemax --version``."""
    if wanted:
        typer.echo(f"widemax {version('widemax')}")
        raise typer.Exit


app = typer.Typer(
    name="widemax",
    help="Softmax classification at any width: train, evaluate exactly, predict.",
    epilog="Add --debug to any verb for the traceback of an error.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True),
    ] = False,
) -> None:
    """Options before a verb; help is given to ``app``."""


def without_pandas(command: Callable[..., None]) -> Callable[..., None]:
    """A verb with Arrow told that pandas is absent: it loads it (.3 s) to know frames; verbs read files."""

    class Absent:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "pandas":
                raise ModuleNotFoundError(name=name)

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        if "pyarrow" not in sys.modules:
            sys.meta_path.insert(0, absent := Absent())
            import pyarrow

            pyarrow.array([])  # Arrow asks once, with its first array
            sys.meta_path.remove(absent)
        command(*args, **options)

    return run


VERBS = (
    *(init, check, plan, train, resume, evaluate, predict, suggest, recommend, rank, neighbors),
    *(extend, export, serve, studio, audit, verify, sign, doctor, demo),
)
for verb in VERBS:
    name = verb.__name__.rpartition(".")[2]
    app.command(name, cls=getattr(verb, "Command", None), epilog=examples(name))(without_pandas(verb.command))
app.add_typer(data.app, name="data")
app.add_typer(recipe.app, name="recipe")


def main() -> None:
    """Run the command line; the exit code says what went wrong: see ``widemax.errors``."""
    # Read once, when torch is loaded: waiting threads would spin on cores that other processes need. For some
    # 20 µs they may, as libgomp lets them where they outnumber the cores: waking one takes longer.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Loading torch makes a million objects that stay; searching them for garbage takes .3 s.
    gc.set_threshold(100_000)
    atexit.register(_skip_last_search)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    workers.end_with_starter()
    try:
        app(arguments)
    except WidemaxError as error:
        _fail(str(error), error.exit_code, debug=debug)
    except (MemoryError, RuntimeError) as error:
        # torch has no exception of its own for this.
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        _fail(OUT_OF_MEMORY, ResourceError.exit_code, debug=debug)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.filename is None:
            # What its buffer still holds would fail once more at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            _fail(f"cannot write the output: {reason}.", ResourceError.exit_code, debug=debug)
        _fail(f"cannot use {error.filename}: {reason}.", ResourceError.exit_code, debug=debug)
    except (KeyboardInterrupt, Exception) as error:
        # Arrow takes signals itself while it reads CSV; its name is asked for, since it may not be loaded.
        if type(error).__name__ not in ("KeyboardInterrupt", "ArrowCancelled"):
            raise
        _fail("interrupted.", workers.INTERRUPTED, debug=debug)
    except SystemExit as stop:
        # The reader of our output, such as head, has seen enough, which typer takes for a failure.
        sys.exit(0 if isinstance(stop.__context__, BrokenPipeError) else stop.code)


def _skip_last_search() -> None:
    """Keep Python from searching all objects as it ends, but for Triton's, which then tells of leaks."""
    if "triton" not in sys.modules:
        gc.freeze()


def _fail(sentence: str, exit_code: int, *, debug: bool) -> None:
    if debug:
        typer.echo(visible(traceback.format_exc()), err=True)
    with suppress(OSError):  # there may be no place to say it
        if place := os.environ.get(workers.FAILURE):
            Path(place).write_text(sentence, encoding="utf-8")
        else:
            typer.echo(f"error: {visible(sentence)}", err=True)
    sys.exit(exit_code)
