"""`phenoembed verify`: check every invariant of the store."""

import typer

from phenoembed_cli.options import DEFAULT_STORE, Json, Store
from phenoembed_cli.output import note, print_json


def verify(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Check every table, embedding, head and index, down to the bytes; say what to do about each fault."""
    import phenoembed_store

    opened = phenoembed_store.open(store)
    faults = opened.verify()
    if as_json:
        indexes = opened.status()["indexes"]
        print_json({"faults": [{"what": one.what, "fix": one.fix} for one in faults], "indexes": indexes})
    else:
        for fault in faults:
            note(str(fault))
        note(f"{len(faults)} fault{'s' if len(faults) != 1 else ''}" if faults else "the store is sound")
    if faults:
        raise typer.Exit(1)
