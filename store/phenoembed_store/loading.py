"""Which images a question is about: from an index where one is fresh enough, else from the table itself."""

import logging
from pathlib import Path

import pyarrow as pa

from phenoembed_store import indexes
from phenoembed_store.aggregate import Floats
from phenoembed_store.errors import MissingExtra, NotInStore
from phenoembed_store.images import Images
from phenoembed_store.indexes import Index
from phenoembed_store.ivf import faiss_module
from phenoembed_store.parts import Part, Rows, fit_to, make_part, read_part, read_rows, read_vectors
from phenoembed_store.tables import Scan
from phenoembed_store.transforms import Transform

log = logging.getLogger("phenoembed")


def load_images(
    scan: Scan,
    encoder: str,
    annotations: pa.Table,
    kind: str,
    folder: Path,
    *,
    make: bool = True,
    opened: Index | None = None,
) -> Images:
    """One encoder's images under its kind of transform.

    A large store's come from its index below ``folder``, made here (if ``make``) where it is missing, stale or damaged;
    a small store's are read from the table. ``opened``: an index at hand, not to be opened again where it is the one.
    Raises NotInStore where there are none.
    """
    images = _from_index(scan, encoder, annotations, kind, folder, opened)
    if images is not None:
        return images
    rows = read_rows(scan, encoder)
    if rows is None:
        raise NotInStore(f"encoder '{encoder}' has no images in the store; run: phenoembed index PLATES")
    if make and len(rows.place) >= indexes.FLAT_LIMIT:
        made = _make_index(scan, encoder, rows, kind, folder)
        if made is not None:
            index, transform = made
            return Images(encoder, scan.version, (part_of(index),), annotations, transform, index)
    part, transform = _compared(rows, read_vectors(scan, encoder, rows.place), kind, encoder)
    return Images(encoder, scan.version, (part,), annotations, transform)


def _compared(rows: Rows, vectors: Floats, kind: str, encoder: str) -> tuple[Part, Transform | None]:
    """Images and their vectors under the transform of this kind, and the transform."""
    part = make_part(rows.table, vectors, None)
    transform = fit_to(part, kind, encoder)
    return (part if transform is None else make_part(rows.table, vectors, transform)), transform


def _make_index(scan: Scan, encoder: str, rows: Rows, kind: str, folder: Path) -> tuple[Index, Transform | None] | None:
    """Make an index of these images and open it; None where it cannot be written or FAISS is not installed.

    The vectors are read into the index's own file: a million of them are never in memory twice.
    """
    log.info("making the index of encoder %s for version %d: %d images", encoder, scan.version, len(rows.place))
    try:
        faiss_module()
        with indexes.beside(folder, encoder) as making:
            vectors = read_vectors(scan, encoder, rows.place, making / indexes.VECTORS)
            part, transform = _compared(rows, vectors, kind, encoder)
            name = transform.id if transform else "none"
            made = indexes.build(making, encoder, scan.version, scan.files, part, name)
    except (OSError, MissingExtra) as error:
        log.warning("no index, every image is compared: %s", error)
        return None
    manifest = next((found for path, found in indexes.manifests(folder, encoder) if path == made), None)
    index = indexes.open_index(made, manifest) if manifest is not None else None
    return None if index is None else (index, transform)


def part_of(index: Index) -> Part:
    return Part(index.rows, index.vectors, index.scaled, index.norms)


def _from_index(
    scan: Scan, encoder: str, annotations: pa.Table, kind: str, folder: Path, opened: Index | None
) -> Images | None:
    """The images of the newest index, and those that came after it, if they are few; None where that cannot be."""
    for path, manifest in reversed(indexes.manifests(folder, encoder)):
        if manifest is None or not set(manifest.files) <= set(scan.files):
            continue
        if manifest.transform.partition("-")[0] != kind:
            continue
        late = scan.without(frozenset(manifest.files))
        tail = read_part(late, encoder) if late.files else None
        if tail is not None and (kind != "none" or len(tail.rows) > indexes.TAIL_SHARE * manifest.vectors):
            continue  # new plates bring new controls, and with them another transform
        still = opened is not None and (opened.folder, opened.manifest) == (path, manifest)
        index = opened if still else indexes.open_index(path, manifest)
        if index is None:
            continue
        parts = (part_of(index),) if tail is None else (part_of(index), tail)
        transform = fit_to(parts[0], kind, encoder)
        return Images(encoder, scan.version, parts, annotations, transform, index)
    return None
