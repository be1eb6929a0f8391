"""`phenoembed delete`: take images out of the store."""

import sys
from typing import Annotated

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import note, print_json


def delete(
    where: Annotated[str, typer.Argument(help="Which: SQL over the columns, e.g. \"plate = 'P3'\".")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")] = False,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Delete the images for which the expression is true, with their embeddings of every encoder.

    Image files stay where they are. Earlier versions of the store have the images until `compact` removes their files.
    """
    import phenoembed_store

    opened = phenoembed_store.open(store)
    found = opened.delete_images(where, dry_run=True)
    if found and not (yes or dry_run):
        _ask(found)
    deleted = opened.delete_images(where) if found and not dry_run else 0
    if as_json:
        print_json({"store": opened.address, "version": opened.version, "matched": found, "deleted": deleted})
    else:
        note(f"{found:,} images match" if dry_run or not found else f"{deleted:,} images deleted")


def _ask(found: int) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{found:,} images match; --yes deletes them without asking")
    typer.confirm(f"{found:,} images match. Delete them?", abort=True, err=True)
