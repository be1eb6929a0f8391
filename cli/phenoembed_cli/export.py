"""`phenoembed export`: images and embeddings out of the store."""

from pathlib import Path
from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Encoder, Json, Store, Where, folder
from phenoembed_cli.output import note, print_json


def export(
    out: Annotated[
        Path,
        typer.Argument(
            help="A .parquet, .csv, .csv.gz or .h5ad file, or a folder for TensorBoard's projector.", parser=folder
        ),
    ],
    where: Where = None,
    encoder: Encoder = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Write images with their embeddings, under the field's names, bit for bit."""
    import phenoembed_store

    done = phenoembed_store.open(store).export(out, where, encoder=encoder)
    if as_json:
        print_json(done)
    else:
        note(f"{done['out']}: {done['images']:,} images of encoder {done['encoder']} ({done['format']})")
