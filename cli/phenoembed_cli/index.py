"""`phenoembed index`: plates into the store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phenoembed_cli.options import DEFAULT_STORE, Encoder, Json, Store, Transform
from phenoembed_cli.output import check_choice, note, print_json, progress_bar
from phenoembed_cli.plates import Plates, read_plates, reads_plates
from phenoembed_store.errors import some_faults

if TYPE_CHECKING:
    from phenoembed.indexing import Indexed

ENGINES = ("local", "ray")
SHOWN_FAULTS = 200  # lines; --json has them all
SHOWN = 20  # rejected images listed on the terminal; the store has them all


@reads_plates
def index(
    plates: Plates,
    encoder: Encoder = None,
    baseline: Annotated[
        bool, typer.Option(help="Embed with the untrained encoder too, for probes to compare with.")
    ] = True,
    transform: Transform = None,
    thumbnails: Annotated[bool, typer.Option(help="Make the dashboard's thumbnails now, not at first sight.")] = True,
    quality: Annotated[
        bool,
        typer.Option(
            help="Judge each image: focus, saturation, emptiness, confluence; outliers are flagged, never dropped."
        ),
    ] = True,
    engine: Annotated[
        str,
        typer.Option("--engine", help="local, or ray: the workers of a Ray cluster (RAY_ADDRESS, or one made here)."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Threads that read, or a cluster's processes; as fits when not given."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images a batch of the encoder.")] = 64,
    precision: Annotated[str, typer.Option("--precision", help="Of the network's arithmetic: 32 or bf16.")] = "32",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be indexed; open no image.")] = False,
    reading: Any = None,
    preparing: Any = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Embed every image that is new or changed, and make the store searchable."""
    from phenoembed.encoding import PRECISIONS

    from phenoembed_store.transforms import KINDS

    check_choice("--engine", engine, ENGINES)
    check_choice("--precision", precision, PRECISIONS)
    check_choice("--transform", transform or "none", KINDS)
    from phenoembed_store import open as open_store

    if dry_run and encoder is None:
        raise typer.Exit(_preview(plates, reading, as_json))  # before there is a store
    opened = open_store(store)
    encoder = encoder and opened.resolve_encoder(encoder)
    if dry_run:
        raise typer.Exit(_preview(plates, reading, as_json))
    from phenoembed.indexing import index_screen

    screen = read_plates(plates, reading)
    with progress_bar("indexing") as advance:
        indexed = index_screen(
            screen,
            opened,
            encoder,
            baseline=baseline,
            quality=quality,
            engine=engine,
            workers=workers,
            precision=precision,
            batch_images=batch_size,
            progress=advance,
            transform=transform,
            preparing=preparing,
        )
    if thumbnails:
        from phenoembed.thumbnails import make_thumbnails

        with progress_bar("thumbnails") as advance:
            make_thumbnails(opened, progress=advance)
    _tell(indexed, as_json)
    raise typer.Exit(1 if indexed.rejected else 0)


def _preview(plates: Path, reading: dict[str, Any], as_json: bool) -> int:
    """Say what would be indexed; the exit code."""
    from phenoembed.readers import preview

    document = preview(plates, **reading)
    faults: list[str] = document["faults"]  # type: ignore[assignment]
    if as_json:
        print_json(document)
    else:
        note(", ".join(f"{name}: {value}" for name, value in document.items() if name != "faults"))
        for line in some_faults(faults, SHOWN_FAULTS):
            note(f"fault: {line}")
    return 1 if faults or document["rejected"] else 0


def _tell(indexed: "Indexed", as_json: bool) -> None:
    """Say what was indexed, and what was rejected."""
    for path, reason in indexed.rejected[:SHOWN]:
        note(f"rejected: {path}: {reason}")
    if len(indexed.rejected) > SHOWN:
        note(f"and {len(indexed.rejected) - SHOWN:,} more: phenoembed query 'SELECT path, reason FROM rejected'")
    if as_json:
        print_json(indexed.document())
        return
    rate = f" at {indexed.images_per_second:,.0f} images a second" if indexed.images_per_second else ""
    note(
        f"{indexed.indexed:,} images indexed{rate}, {indexed.unchanged:,} unchanged, "
        f"{indexed.updated:,} with new metadata, {len(indexed.rejected):,} rejected (encoder {indexed.encoder})"
    )
