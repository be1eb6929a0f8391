"""Images in one piece: their metadata, sorted by key, and their vectors beside it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.errors import StoreError
from phenoembed_store.schema import IMAGE_KEY
from phenoembed_store.tables import Scan
from phenoembed_store.transforms import Transform, fit

OF_ENCODER = '"encoder" = $p0'


@dataclass(frozen=True, eq=False)
class Part:
    """Some images in one piece: those an index covers, or those that came after it.

    rows: metadata; vectors: (images, dim), as the encoder made them; scaled: under the transform; norms: their lengths.
    """

    rows: pa.Table
    vectors: Floats
    scaled: Floats
    norms: Floats


@dataclass(frozen=True, eq=False)
class Rows:
    """One encoder's images in the table. table: metadata, sorted by key; place: (images,), where each came to stand."""

    table: pa.Table
    place: Integers


def read_rows(scan: Scan, encoder: str) -> Rows | None:
    """One encoder's images, without their vectors; None where there are none."""
    names = [name for name in scan.schema.names if name != "embedding"]
    found = scan.read(names, OF_ENCODER, [encoder])
    if not len(found):
        return None
    order = sort_order(found)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Rows(found.take(pa.array(order)).combine_chunks(), place)


def read_vectors(scan: Scan, encoder: str, place: Integers, file: Path | None = None) -> Floats:
    """Their embeddings, (images, dim), each at its place; in memory, or in a .npy file that is mapped to it.

    Raises StoreError for ragged vectors, OSError where the file cannot be written.
    """
    found: Floats | None = None
    start = 0
    for batch in scan.batches(["embedding"], OF_ENCODER, [encoder]):
        vectors = embedding_matrix(pa.chunked_array([batch.column(0)]), encoder)
        if found is None:
            shape = (len(place), vectors.shape[1])
            found = np.empty(shape, np.float32) if file is None else _mapped(file, shape)
        if vectors.shape[1] != found.shape[1]:
            raise _ragged(encoder, {vectors.shape[1], found.shape[1]})
        found[place[start : start + len(vectors)]] = vectors
        start += len(vectors)
    return np.zeros((0, 0), np.float32) if found is None else found


def _mapped(file: Path, shape: tuple[int, int]) -> Floats:
    """An array in a new .npy file, mapped to memory. Raises OSError."""
    mapped = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    if hasattr(os, "posix_fallocate"):  # a disk that is full is an error now; when the array is filled, a dead process
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return np.asarray(mapped)


def read_part(scan: Scan, encoder: str) -> Part | None:
    """One encoder's images from the table, in memory, sorted by key; None where there are none."""
    rows = read_rows(scan, encoder)
    return None if rows is None else make_part(rows.table, read_vectors(scan, encoder, rows.place), None)


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
    """A list column as (rows, dim), without a copy where it is one chunk.

    Raises StoreError for ragged vectors.
    """
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    lengths = {length for chunk in chunks for length in _lengths(chunk)}
    if column.null_count or len(lengths) > 1:
        raise _ragged(name, lengths)
    dim = lengths.pop() if lengths else 0
    pieces = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), dim) for chunk in chunks]
    if len(pieces) == 1:
        return np.asarray(pieces[0], np.float32)
    return np.concatenate([np.zeros((0, dim), np.float32), *pieces], dtype=np.float32)


def _ragged(name: str, lengths: set[int]) -> StoreError:
    return StoreError(f"the embeddings of '{name}' are not all of one length: {sorted(lengths)[:5]}")


def _lengths(lists: pa.Array) -> set[int]:
    if not pa.types.is_list(lists.type):
        return {lists.type.list_size}
    return set(np.unique(np.diff(lists.offsets.to_numpy())).tolist())


def sort_order(rows: pa.Table) -> Integers:
    """The rows in the order of the image key."""
    import pyarrow.compute as pc

    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in IMAGE_KEY])
    return np.asarray(order, np.int64)
