"""`phenoembed compact`: bring small files together, and give back the disk that old versions take."""

from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import note, print_json


def compact(
    keep_days: Annotated[
        float, typer.Option("--keep-days", min=0, max=36_500, help="Versions of these days can still be asked for.")
    ] = 7,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Rewrite many small files as few, and remove those that no recent version needs."""
    import phenoembed_store

    done = phenoembed_store.open(store).compact(keep_days)
    if as_json:
        print_json(done)
    else:
        kept = f" (with versions of the last {keep_days:g} days: --keep-days)" if keep_days else ""
        note(f"{done['bytes_before'] / 1e6:,.1f} MB before, {done['bytes_after'] / 1e6:,.1f} MB after{kept}")
