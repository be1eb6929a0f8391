"""`phenoembed query`: read-only SQL over the store's views."""

from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import print_json

FORMATS = ("table", "csv", "parquet", "arrow", "json")
SHOWN_ROWS = 200
"""A table on a terminal is for reading: of a longer result its first and last rows, and how many there are."""


def query(
    sql: Annotated[
        str,
        typer.Argument(help="One SELECT over images (one row an encoder), groups, annotations, predictions, rejected."),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv, json, parquet or arrow; of a file, as its name says if not given."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file, not to standard output.")] = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Ask the store in SQL, read-only."""
    form = _form(form, as_json, out)
    import phenoembed_store
    from phenoembed_store.sql import named_apart, query_errors, read_rows

    with query_errors():  # a relation runs when it is read
        relation = phenoembed_store.open(store).sql(sql)
        if form == "table":
            relation.show(max_rows=SHOWN_ROWS, max_width=get_terminal_size((160, 0)).columns)
            return
        result = named_apart(read_rows(relation))
    if form == "json" and out is None:
        print_json(result.to_pylist())
        return
    from phenoembed_store.export import write_table

    write_table(result, out, form)


def _form(form: str | None, as_json: bool, out: Path | None) -> str:
    """The form that is asked for, by an option or the file's name. Raises typer.BadParameter where they disagree."""
    if as_json and form not in (None, "json"):
        raise typer.BadParameter(f"--json and --format {form} are two forms; choose one", param_hint="--format")
    asked = "json" if as_json else form
    if asked not in (None, *FORMATS):
        raise typer.BadParameter(f"'{asked}' is none of {', '.join(FORMATS)}", param_hint="--format")
    if out is None:
        if asked in ("parquet", "arrow"):
            raise typer.BadParameter(f"{asked.capitalize()} is no text: name a file", param_hint="--out")
        return asked or "table"
    return _form_of_file(asked, out)


def _form_of_file(asked: str | None, out: Path) -> str:
    from phenoembed_store.export import table_format

    named = table_format(out)
    if asked == "table":
        raise typer.BadParameter("a table is for the terminal; a file can be csv, json, parquet or arrow")
    if asked and named not in (None, asked):
        raise typer.BadParameter(f"'{out.name}' is a name for {named}, not for {asked}", param_hint="--out")
    found = asked or named
    if found is None:
        raise typer.BadParameter(f"'{out.name}' names no form: write .csv, .json, .parquet or .arrow, or say --format")
    return found
