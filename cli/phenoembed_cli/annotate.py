"""`phenoembed annotate`: what is known of compounds, doses or wells, joined to the images."""

from pathlib import Path
from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import note, print_json
from phenoembed_cli.plates import Map, parse_map


def annotate(
    table: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet, a row a key.")],
    on: Annotated[
        str, typer.Option("--on", help="compound, inchikey, plate,well or compound,concentration_um.")
    ] = "compound",
    columns: Map = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Add columns (mechanism, target, SMILES, ...) that hits show and filters can use."""
    import phenoembed_store

    report = phenoembed_store.open(store).annotate(table, on, parse_map(columns))
    if as_json:
        print_json(report)
        return
    note(f"{report['matched']:,} of {report['rows']:,} rows match the store on {on}: {', '.join(report['columns'])}")
    if report["unmatched"]:
        shown = "; ".join(report["unmatched"][:10])
        more = len(report["unmatched"]) - 10
        note(f"not in the store: {shown}" + (f"; and {more:,} more" if more > 0 else ""))
    if not report["in_store"]:
        note(f"no image of the store has {on}; a table joined on compound may bring it")
    if report["without_annotation"]:
        note(f"{report['without_annotation']:,} of the store have no row in the table")
