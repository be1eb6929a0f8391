"""The folders of a screen's tree, read once for all readers."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from phenoembed_store.errors import ManifestError

IMAGES = frozenset((".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".gif", ".webp"))
ZARR_MARKS = frozenset(("zarr.json", ".zgroup", ".zarray"))


class Listing(NamedTuple):
    """One folder and the names of its files, in order."""

    folder: Path
    files: tuple[str, ...]


Tree = Sequence[Listing]


def walk(root: Path) -> list[Listing]:
    """Every folder at or below ``root``, in order; linked folders too, each once.

    A Zarr group is listed, but not what lies within: it may hold a million chunks. What a Macintosh leaves beside
    files (``._name``) is none of them. Raises ``ManifestError`` with every folder that cannot be read, and every name
    that no table can hold: a plate there would be left out in silence.
    """
    found: list[Listing] = []
    closed: list[OSError] = []
    faults: list[str] = []
    been: set[str] = set()
    for top, folders, files in os.walk(root, onerror=closed.append, followlinks=True):
        real = os.path.realpath(top)
        if real not in been:
            faults += [f"'{name}' is no name in UTF-8; rename it" for name in _unnameable(top, files)]
            found.append(Listing(Path(top), tuple(sorted(name for name in files if not name.startswith("._")))))
        folders[:] = [] if real in been or ZARR_MARKS & set(files) else sorted(folders)
        been.add(real)
    faults += [f"folder '{each.filename}' cannot be read: {each.strerror}" for each in closed]
    if faults:
        raise ManifestError(str(root), faults)
    return found


def _unnameable(folder: str, files: Sequence[str]) -> list[str]:
    """The files whose bytes are no text: Python reads them as lone surrogates."""
    names = [os.path.join(folder, name) for name in files]
    return [name for name in names if not name.isascii() and any("\ud800" <= each <= "\udfff" for each in name)]


def folders_with(tree: Tree, wanted: Callable[[str], object]) -> list[Listing]:
    """The folders that hold a wanted file, with the wanted files only."""
    chosen = [Listing(each.folder, tuple(name for name in each.files if wanted(name))) for each in tree]
    return [each for each in chosen if each.files]


def left_out(tree: Tree, of_another_name: Callable[[Path, str], object]) -> tuple[str, ...]:
    """A note on the images that are none of the screen's by folder and name; none where there is no such image."""
    images = [
        (each.folder / name).relative_to(tree[0].folder).as_posix()
        for each in tree
        for name in each.files
        if name.lower().endswith(tuple(IMAGES)) and of_another_name(each.folder, name)
    ]
    shown = ", ".join(map(repr, images[:3])) + (", ..." if len(images) > 3 else "")
    return (f"images of other names, left out: {len(images):,} ({shown})",) if images else ()
