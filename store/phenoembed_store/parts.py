"""Images in one piece: their metadata, sorted by key, and their vectors beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import StoreError
from phenoembed_store.schema import IMAGE_KEY
from phenoembed_store.tables import Scan
from phenoembed_store.transforms import Transform, fit


@dataclass(frozen=True, eq=False)
class Part:
    """Some images in one piece: those an index covers, or those that came after it.

    rows: metadata; vectors: (images, dim), as the encoder made them; scaled: under the transform; norms: their lengths.
    """

    rows: pa.Table
    vectors: Floats
    scaled: Floats
    norms: Floats


def read_part(scan: Scan, encoder: str, transform: Transform | None = None) -> Part | None:
    """One encoder's images from the table, sorted by key; None where there are none."""
    found = scan.read(where='"encoder" = $p0', parameters=[encoder])
    if not len(found):
        return None
    order = sort_order(found)
    as_it_lies = np.arange(len(order))
    rows, place = found.drop_columns(["embedding"]), None
    if not np.array_equal(order, as_it_lies):
        rows, place = rows.take(pa.array(order)), np.empty_like(order)
        place[order] = as_it_lies
    vectors = embedding_matrix(found.column("embedding"), encoder, place)
    return make_part(rows.combine_chunks(), vectors, transform)


def make_part(rows: pa.Table, vectors: Floats, transform: Transform | None) -> Part:
    scaled = vectors if transform is None else transform.apply(vectors, rows.column("plate").to_pylist())
    return Part(rows, vectors, scaled, np.sqrt(np.einsum("ij,ij->i", scaled, scaled)))


def fit_to(part: Part, kind: str, encoder: str) -> Transform | None:
    """The transform of this kind, fitted to the part's controls."""
    if kind == "none":
        return None
    control = np.flatnonzero(part.rows.column("role").to_numpy() == "control")
    return fit(kind, encoder, part.vectors, part.rows.column("plate").to_pylist(), control)


def joined(arrays: Sequence[Floats]) -> Floats:
    """One array of several; itself, not a copy, where there is one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def embedding_matrix(column: pa.ChunkedArray, name: str, place: Integers | None = None) -> Floats:
    """A list column as (rows, dim), row i at ``place[i]`` (default: at i; then without a copy where it is one chunk).

    Raises StoreError for ragged vectors.
    """
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    lengths = {length for chunk in chunks for length in _lengths(chunk)}
    if column.null_count or len(lengths) > 1:
        raise StoreError(f"the embeddings of '{name}' are not all of one length: {sorted(lengths)[:5]}")
    dim = lengths.pop() if lengths else 0
    pieces = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), dim) for chunk in chunks]
    if place is None and len(pieces) == 1:
        return np.asarray(pieces[0], np.float32)
    matrix = np.empty((len(column), dim), np.float32)
    start = 0
    for piece in pieces:
        rows = slice(start, start + len(piece))
        matrix[rows if place is None else place[rows]] = piece
        start = rows.stop
    return matrix


def _lengths(lists: pa.Array) -> set[int]:
    if not pa.types.is_list(lists.type):
        return {lists.type.list_size}
    return set(np.unique(np.diff(lists.offsets.to_numpy())).tolist())


def sort_order(rows: pa.Table) -> Integers:
    """The rows in the order of the image key."""
    import pyarrow.compute as pc

    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in IMAGE_KEY])
    return np.asarray(order, np.int64)
