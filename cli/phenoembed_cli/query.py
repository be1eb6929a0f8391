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
        typer.Argument(
            help="One SELECT over images (a row an image and encoder) groups, annotations, predictions, rejected."
        ),
    ],
    form: Annotated[str, typer.Option("--format", help="table, csv, parquet, arrow or json.")] = "table",
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file, not to standard output.")] = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Ask the store in SQL, read-only."""
    form = "json" if as_json else form
    if form not in FORMATS:
        raise typer.BadParameter(f"'{form}' is none of {', '.join(FORMATS)}", param_hint="--format")
    if form in ("parquet", "arrow") and out is None:
        raise typer.BadParameter(f"{form.capitalize()} is no text: name a file", param_hint="--out")
    import phenoembed_store
    from phenoembed_store.sql import named_apart, query_errors

    with query_errors():  # a relation runs when it is read
        relation = phenoembed_store.open(store).sql(sql)
        if form == "table" and out is None:
            relation.show(max_rows=SHOWN_ROWS, max_width=get_terminal_size((160, 0)).columns)
            return
        result = named_apart(relation.to_arrow_table())
    if form == "json" and out is None:
        print_json(result.to_pylist())
        return
    from phenoembed_store.export import write_table

    write_table(result, out, "csv" if form == "table" else form)
