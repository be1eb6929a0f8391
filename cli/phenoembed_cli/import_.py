"""`phenoembed import`: profiles that others made, as embeddings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store, Transform
from phenoembed_cli.output import note, print_json
from phenoembed_cli.plates import Map, parse_map


def import_(
    table: Annotated[Path, typer.Argument(help="CSV, CSV.gz, TSV, Parquet or AnnData: a row a well or field.")],
    metadata: Annotated[
        list[Path] | None, typer.Option("--metadata", help="A further table of the wells or compounds; repeatable.")
    ] = None,
    columns: Map = None,
    embedding: Annotated[
        list[str] | None, typer.Option("--embedding", help="A feature column, or the one of lists; repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call these embeddings; the file's name.")] = None,
    screen: Annotated[str | None, typer.Option("--screen", help="The screen they belong to; the file's name.")] = None,
    transform: Transform = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Bring in anyone's profiles or embeddings, with whatever their columns are called."""
    from phenoembed_store.opening import opened_or_made

    with opened_or_made(store) as opened:
        report = opened.import_profiles(
            table,
            embedding=embedding,
            metadata=parse_map(columns),
            joined=metadata or (),
            name=name,
            screen=screen,
            transform=transform,
        )
    if as_json:
        print_json(report)
    else:
        _say(report)
    if report["rejected"]:
        raise typer.Exit(1)


def _say(report: dict[str, Any]) -> None:
    matched = ", ".join(f"{ours} = {theirs}" for ours, theirs in report["matched"].items())
    note(f"{report['rows']:,} rows, {report['features']:,} features; recognised: {matched}")
    for joined in report["joined"]:
        note(
            f"{joined['table']}: {joined['matched']:,} rows matched on {', '.join(joined['on'])}, "
            f"{joined['unmatched']:,} not; brought {', '.join(joined['columns']) or 'nothing new'}"
        )
    for remark in report["remarks"]:
        note(remark)
    for row in report["rejections"]:
        note(f"rejected: {row['path']}: {row['reason']}")
    if report["rejected"] > len(report["rejections"]):
        note("and more: phenoembed query 'SELECT path, reason FROM rejected'")
    note(
        f"{report['encoder']}: {report['added']:,} added, {report['updated']:,} updated, "
        f"{report['rejected']:,} rejected" + (f"; compared under {report['transform']}" if report["transform"] else "")
    )
