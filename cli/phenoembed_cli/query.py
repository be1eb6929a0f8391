"""`phenoembed query`: read-only SQL over the store's views."""

from pathlib import Path
from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import print_json, print_table

FORMATS = ("table", "csv", "parquet", "json")


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over images, groups, annotations, predictions, rejected.")],
    form: Annotated[str, typer.Option("--format", help="table, csv, parquet or json.")] = "table",
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file, not to standard output.")] = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Ask the store in SQL, read-only."""
    form = "json" if as_json else form
    if form not in FORMATS:
        raise typer.BadParameter(f"'{form}' is none of {', '.join(FORMATS)}", param_hint="--format")
    if form == "parquet" and out is None:
        raise typer.BadParameter("Parquet is no text: name a file", param_hint="--out")
    import phenoembed_store
    from phenoembed_store.sql import query_errors

    with query_errors():  # a relation runs when it is read
        result = phenoembed_store.open(store).sql(sql).to_arrow_table()
    if out is not None or form == "csv":
        from phenoembed_store.export import write_table

        write_table(result, out, "csv" if form == "table" else form)
        return
    rows = result.to_pylist()
    if form == "json":
        print_json(rows)
    else:
        print_table(result.column_names, [list(row.values()) for row in rows])
