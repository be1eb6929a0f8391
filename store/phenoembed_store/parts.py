"""Images in one piece: their metadata, sorted by key, and their vectors beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
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
    vectors = embedding_matrix(found.column("embedding"), encoder)
    rows = found.drop_columns(["embedding"])
    if not np.array_equal(order, np.arange(len(order))):
        vectors, rows = vectors[order], rows.take(pa.array(order))
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


def embedding_matrix(column: pa.ChunkedArray, name: str) -> Floats:
    """A list column as (rows, dim), without a copy where it is one chunk. Raises StoreError for ragged vectors."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    values: npt.NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
    n = len(array)
    dim = len(values) // n if n else 0
    lengths = np.diff(array.offsets.to_numpy()) if pa.types.is_list(array.type) else np.full(n, dim)
    if array.null_count or not (lengths == dim).all():
        raise StoreError(f"the embeddings of '{name}' are not all of one length: {sorted(set(lengths.tolist()))[:5]}")
    return np.asarray(values, np.float32).reshape(n, dim)


def sort_order(rows: pa.Table) -> Integers:
    """The rows in the order of the image key."""
    import pyarrow.compute as pc

    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in IMAGE_KEY])
    return np.asarray(order, np.int64)
