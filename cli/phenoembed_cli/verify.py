"""`phenoembed verify`: check every invariant of the store."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import note, print_json
from phenoembed_store.errors import PhenoembedError

if TYPE_CHECKING:
    import phenoembed_store


def verify(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Check every table, embedding, encoder, head and index, down to the bytes; say what to do about each fault."""
    import phenoembed_store

    opened = phenoembed_store.open(store)
    faults = opened.verify()
    if as_json:
        print_json({"faults": [asdict(one) for one in faults], "indexes": _indexes(opened)})
    else:
        for fault in faults:
            note(str(fault))
        note(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}" if faults else "the store is sound")
    if faults:
        raise typer.Exit(1)


def _indexes(store: "phenoembed_store.Store") -> list[dict[str, Any]]:
    """The indexes as ``status`` lists them; none where the damage leaves no status."""
    try:
        found: list[dict[str, Any]] = store.status()["indexes"]
    except PhenoembedError:
        return []
    return found
