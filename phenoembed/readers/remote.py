"""Plates in object storage: what describes them is brought here for a moment, the images are read where they lie."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pyarrow as pa

from phenoembed.readers.tree import IMAGES, ZARR_MARKS
from phenoembed.screen import STACK_COLUMN, Screen
from phenoembed_store import remote
from phenoembed_store.errors import ManifestError, PhenoembedError


@contextmanager
def brought(url: str) -> Iterator[Path]:
    """The tree below a prefix as a folder: files that describe are copied, images are empty files of that name.

    Raises PhenoembedError where there is nothing, or where the description lies within the images.
    """
    remote.forget()
    found = remote.listing(url)
    if not found:
        raise PhenoembedError(f"nothing lies at '{url}/'")
    names = {PurePosixPath(name).name for name in found}
    if ZARR_MARKS & names:
        raise PhenoembedError(f"'{url}' holds OME-Zarr plates, which are read from folders only: copy them to one")
    with TemporaryDirectory(prefix="phenoembed-") as above:
        folder = Path(os.path.realpath(above)) / (PurePosixPath(url).name or "screen")
        pictures = [name for name in found if PurePosixPath(name).suffix.lower() in IMAGES]
        for name in pictures:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        remote.download(url, sorted(set(found) - set(pictures)), folder)
        try:
            yield folder
        except ManifestError as error:
            there = (str(folder), url)
            raise ManifestError(error.source.replace(*there), [one.replace(*there) for one in error.faults]) from None
        except PhenoembedError as error:
            raise type(error)(str(error).replace(str(folder), url)) from None


def where_it_lies(screen: Screen, folder: Path, url: str) -> Screen:
    """A screen that was read from what was brought, its images where they are. Raises PhenoembedError for OME-TIFF."""
    if screen.reader == "ome-tiff":
        raise PhenoembedError(f"'{url}' holds OME-TIFF plates, which are read from folders only: copy them to one")
    start = f"{folder}/"
    table, rejected = screen.table, screen.rejected
    for name in ("path", STACK_COLUMN):
        if name in table.column_names:
            column = table.column(name)
            said = [_from(start, one) for one in column.to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(said, column.type))
    paths = [_from(start, one) for one in rejected.column("path").to_pylist()]
    rejected = rejected.set_column(rejected.column_names.index("path"), "path", pa.array(paths, pa.string()))
    source = screen.source.replace(str(folder), url)
    notes = tuple(note.replace(str(folder), url) for note in screen.notes)
    return replace(screen, table=table, rejected=rejected, root=Path(url), source=source, notes=notes)


def _from(start: str, path: str | list[str] | None) -> str | list[str] | None:
    """A path (or those of a stack) from the plates' folder."""
    if isinstance(path, list):
        return [one.removeprefix(start) for one in path]
    return path if path is None else path.removeprefix(start)
