"""`phenoembed status`: what the store holds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from phenoembed_cli.options import DEFAULT_STORE, Encoder, Json, Store
from phenoembed_cli.output import note, print_json, print_table


def status(
    plates: Annotated[
        bool, typer.Option("--plates", help="How each plate did: flagged images, edge effect, replicates.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Draw each plate as heat maps: a .png or .pdf.")
    ] = None,
    encoder: Encoder = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Say what the store holds: images, encoders, indexes; with --plates, how each plate did."""
    import phenoembed_store

    opened = phenoembed_store.open(store)
    found = opened.status()
    if plates:
        found["plates"] = opened.plates(encoder)
    if report is not None:
        from phenoembed.plates import draw_plates

        shown = draw_plates(opened, report, encoder)
        note(f"{shown:,} plates drawn in {report}")
    if as_json:
        print_json(found)
        return
    version = "nothing indexed yet" if found["version"] < 0 else f"version {found['version']}"
    typer.echo(
        f"{found['store']}, {version}: {found['images']:,} images ({found['controls']:,} of controls), "
        f"{found['groups']:,} groups, {found['compounds']:,} compounds, {found['rejected']:,} rejected, "
        f"{found['bytes'] / 1e6:,.1f} MB"
    )
    if found["encoders"]:
        columns = ["id", "method", "split", "fold", "dim", "images", "trained_at"]
        print_table(columns, [[row[name] for name in columns] for row in found["encoders"]], title="encoders")
    if found["indexes"]:
        columns = ["name", "kind", "vectors", "fresh", "recall_at_10"]
        print_table(columns, [[row[name] for name in columns] for row in found["indexes"]], title="indexes")
    if plates:
        _print_plates(found["plates"])


def _print_plates(plates: list[dict[str, Any]]) -> None:
    columns = ["screen", "plate", "images", "flagged", "edge_effect", "replicate_correlation", "other_correlation"]
    flags = [", ".join(f"{count:,} {name}" for name, count in row["flags"].items()) for row in plates]
    rows = [[*(row[name] for name in columns), said] for row, said in zip(plates, flags, strict=True)]
    print_table([*(name.replace("_", " ") for name in columns), "flags"], rows, title="plates")
