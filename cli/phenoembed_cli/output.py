"""What commands print: documents and tables on standard output; progress and logs on standard error."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import typer

from phenoembed_store.documents import plain


class Advance(Protocol):
    """Told how far a piece of long work has come."""

    def __call__(self, done: int, total: int) -> None: ...


def print_json(document: Any) -> None:
    """One JSON document, and nothing else, on standard output."""
    json.dump(plain(document), sys.stdout, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    sys.stdout.write("\n")


def first_process() -> bool:
    """Whether this process speaks: of those that ``torchrun`` starts, the first one does."""
    return os.environ.get("RANK", "0") == "0"


def note(message: str) -> None:
    """A line for the person at the terminal, on standard error."""
    if not first_process():
        return
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def check_choice(option: str, value: str, choices: Iterable[str]) -> None:
    """Raise typer.BadParameter, wrong usage, where an option's value is none of its choices."""
    names = list(choices)
    if value not in names:
        raise typer.BadParameter(f"{option} '{value}' is none of {', '.join(names)}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
    """A table on standard output; numbers to the right, floats to three digits."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        numeric = any(isinstance(row[i], int | float) for row in rows)
        table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    terminal = sys.stdout.isatty()
    Console(file=sys.stdout, width=None if terminal else 160, highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


@contextmanager
def progress_bar(label: str, *, unit: str = "images") -> Iterator[Advance]:
    """A progress bar on standard error: done, total, rate and time left.

    Where standard error is no terminal, a line every tenth of the way instead.
    """
    if not (sys.stderr.isatty() and first_process()):
        yield _line_every_tenth(label, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=None, rate="")
        yield lambda done, total: progress.update(task, completed=done, total=total, rate=_rate(done, started))


def _rate(done: int, started: float) -> str:
    elapsed = time.monotonic() - started
    return f"{done / elapsed:,.3g} a second" if done and elapsed > 1 else ""


def _line_every_tenth(label: str, unit: str) -> Advance:
    said, started = -1, time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal said
        tenth = 10 * done // max(total, 1)
        if tenth > said:
            said = tenth
            left = (time.monotonic() - started) * (total - done) / done if done else 0.0
            figures = [_rate(done, started), f"{_span(left)} left" if left > 1 else ""]
            note(", ".join([f"{label}: {done:,} of {total:,} {unit}", *filter(None, figures)]))

    return advance


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
