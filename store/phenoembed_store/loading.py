"""Which images a question is about: from an index where one is fresh enough, else from the table itself."""

import logging
from pathlib import Path

import pyarrow as pa

from phenoembed_store import indexes
from phenoembed_store.errors import MissingExtra, NotInStore
from phenoembed_store.images import Images
from phenoembed_store.indexes import Index
from phenoembed_store.parts import Part, fit_to, make_part, read_part
from phenoembed_store.tables import Scan

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
    part = read_part(scan, encoder)
    if part is None:
        raise NotInStore(f"encoder '{encoder}' has no images in the store; run: phenoembed index PLATES")
    transform = fit_to(part, kind, encoder)
    if transform is not None:
        part = make_part(part.rows, part.vectors, transform)
    if make and len(part.rows) >= indexes.FLAT_LIMIT:
        index = make_index(scan, encoder, part, transform.id if transform else "none", folder)
        if index is not None:
            return Images(encoder, scan.version, (part_of(index),), annotations, transform, index)
    return Images(encoder, scan.version, (part,), annotations, transform)


def make_index(scan: Scan, encoder: str, part: Part, transform: str, folder: Path) -> Index | None:
    """Make an index of these images and open it; None where it cannot be written or FAISS is not installed."""
    log.info("making the index of encoder %s for version %d: %d images", encoder, scan.version, len(part.rows))
    try:
        made = indexes.build(folder, encoder, scan.version, scan.files, part, transform)
    except (OSError, MissingExtra) as error:
        log.warning("no index, every image is compared: %s", error)
        return None
    manifest = next((found for path, found in indexes.manifests(folder, encoder) if path == made), None)
    return indexes.open_index(made, manifest) if manifest is not None else None


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
