"""Where a store may lie, and whether there is one."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from phenoembed_store import remote
from phenoembed_store.errors import NotInStore, StoreError
from phenoembed_store.mirror import mirror_of
from phenoembed_store.store import Store

UNUSABLE = re.compile(r"[\[\]^|#?\\\x00-\x1f]|%[0-9A-Fa-f]{2}")
"""What the Delta library cannot take in a path: some characters, and what it would decode (``%20``)."""


PARTS = ("images", "encoders", "rejected")
"""Folders of which every store has one."""


def open_store(path: str | Path, create: bool = False) -> Store:
    """Open the store in a folder, or at s3://bucket/prefix. ``create``: make it where there is none.

    Raises NotInStore, StoreError.
    """
    mirror = mirror_of(path)
    folder = Path(path) if mirror is None else mirror.folder
    place = remote.as_typed(path)
    if place.rstrip("/") == "s3:":
        raise StoreError("'s3://' names no bucket; a store lies at s3://bucket/prefix")
    bad = UNUSABLE.search(os.path.realpath(folder) if mirror is None else mirror.url)
    if bad:
        raise StoreError(f"a store cannot lie at '{place}': its tables cannot be written under a {bad[0]!r}")
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"'{folder}' is a file; a store is a folder")
    if mirror is None:
        there = any((folder / name).is_dir() for name in PARTS)
    else:
        mirror.pull()
        there = any(remote.listing(f"{mirror.url}/{name}") for name in PARTS)
    if not there and not create:
        raise NotInStore(
            f"no store at '{place}'; run `phenoembed train PLATES` and `phenoembed index PLATES`, "
            "or name another with --store"
        )
    if create:
        (folder / "encoders").mkdir(parents=True, exist_ok=True)
    return Store(folder, mirror=mirror)


@contextmanager
def opened_or_made(path: str | Path) -> Iterator[Store]:
    """A store to bring something into, made where there is none; and unmade where that failed and left it empty."""
    place = Path(path)
    there = place.exists()
    store = open_store(path, create=True)
    try:
        yield store
    except BaseException:
        if not there:
            with suppress(OSError):  # what is not empty stays
                (store.path / "encoders").rmdir()
                store.path.rmdir()
        raise
