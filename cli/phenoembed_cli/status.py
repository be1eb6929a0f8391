"""`phenoembed status`: what the store holds."""

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import print_json, print_table


def status(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Say what the store holds: images, encoders, indexes."""
    import phenoembed_store

    found = phenoembed_store.open(store).status()
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{found['store']}, version {found['version']}: {found['images']:,} images, {found['groups']:,} groups, "
        f"{found['compounds']:,} compounds, {found['rejected']:,} rejected, {found['bytes'] / 1e6:,.1f} MB"
    )
    if found["encoders"]:
        columns = ["id", "method", "split", "fold", "dim", "images", "trained_at"]
        print_table(columns, [[row[name] for name in columns] for row in found["encoders"]], title="encoders")
    if found["indexes"]:
        columns = ["name", "kind", "vectors", "fresh", "recall_at_10"]
        print_table(columns, [[row[name] for name in columns] for row in found["indexes"]], title="indexes")
