"""The `phenoembed` command: one thin file a command, no logic of its own.

Exit codes: 0 done, 1 failed (or images were rejected, the rest being committed), 2 wrong usage, 130 interrupted.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from phenoembed_cli.output import note
from phenoembed_store.errors import PhenoembedError, one_line

COMMANDS = (
    "demo",
    "simulate",
    "train",
    "index",
    "probe",
    "evaluate",
    "search",
    "query",
    "annotate",
    "import_",
    "export",
    "delete",
    "status",
    "dashboard",
    "serve",
    "verify",
    "compact",
)
"""In the order of `--help`. Each is a module of this package with a function of that name."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:  # Typer would end without a word; ours may say how to go on
            note(str(stop) or "interrupted")
            return 130


_UsageError: Any = typer.BadParameter.__base__  # click's, wherever this Typer keeps it

app = typer.Typer(
    name="phenoembed",
    cls=_Group,
    help="Embeddings and similarity search for label-free phenotypic screens: which compounds look like this one?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        typer.echo(f"phenoembed {version('phenoembed')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


for _name in COMMANDS:
    _module = import_module(f"phenoembed_cli.{_name}")
    app.command(_name.rstrip("_").replace("_", "-"))(getattr(_module, _name))


def main() -> None:
    """Entry point: every error a user can cause is one line on standard error, never a traceback."""
    sys.exit(_run())


def _run() -> int:
    os.environ["RUST_BACKTRACE"] = "0"  # of the libraries' threads, which would print frames without a name
    try:
        status = app(standalone_mode=False)
    except _UsageError as error:  # an unknown command, option or value
        return _fail(one_line(_with_value(error)), 2)
    except PhenoembedError as error:
        return _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        return 130
    except BrokenPipeError:  # the reader (`| head`) has left
        sys.stderr.close()
        return 0
    except RuntimeError as error:
        if "interrupted" not in str(error).lower():  # DuckDB's word for Ctrl-C in the middle of a query
            raise
        note("interrupted")
        return 130
    except OSError as error:
        return _fail(one_line(f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")), 1)
    return status if isinstance(status, int) else 0


def _with_value(error: Any) -> str:
    """A usage error's message, naming what was typed; Typer leaves the value out where a type does not fit."""
    message = str(error.format_message())
    options = getattr(getattr(error, "param", None), "opts", ())
    typed = [value for option, value in pairwise(sys.argv) if option in options]
    typed += [word.partition("=")[2] for word in sys.argv if word.partition("=")[0] in options and "=" in word]
    written = getattr(getattr(error, "ctx", None), "default_map", None) or {}  # in the file of --config
    if not typed and options and error.param.name in written:
        typed = [str(written[error.param.name])]
    return f"{message} (not '{typed[-1]}')" if typed and typed[-1] not in message else message


def _fail(message: str, status: int) -> int:
    note(f"error: {message}")
    return status
