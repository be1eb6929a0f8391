"""The images of one encoder as the search and every question see them: sorted rows, and their vectors beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers, number
from phenoembed_store.annotations import annotate_rows
from phenoembed_store.errors import NotInStore, StoreError
from phenoembed_store.filters import ROW, matching_rows
from phenoembed_store.grouping import assign_groups
from phenoembed_store.schema import FILE_SCHEMA, IMAGE_KEY, IMAGES_SCHEMA
from phenoembed_store.sql import locked
from phenoembed_store.tables import Scan
from phenoembed_store.transforms import Transform, fit

GROUP_COLUMNS = ("group_id", "set", "configuration")
KNOWN_COLUMNS = frozenset((*IMAGES_SCHEMA.names, *GROUP_COLUMNS))


@dataclass(frozen=True, eq=False)
class Images:
    """One encoder's images at one version of the tables. ``rows`` and ``vectors`` are sorted by the image key.

    rows: metadata without embedding; vectors: (images, dim), as the encoder made them (not normalised).
    """

    encoder: str
    version: int
    rows: pa.Table
    vectors: Floats
    annotations: pa.Table
    transform: Transform | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    @cached_property
    def table(self) -> pa.Table:
        """Rows with their annotations and their place: group_id, set, configuration."""
        placed = assign_groups(self.rows).select(list(GROUP_COLUMNS))
        table = annotate_rows(self.rows, self.annotations)
        for name in GROUP_COLUMNS:
            table = table.append_column(name, placed.column(name))
        return table

    @cached_property
    def annotation_columns(self) -> tuple[str, ...]:
        """Columns that the store does not know itself, ``moa`` first."""
        names = [name for name in self.table.column_names if name not in KNOWN_COLUMNS]
        return tuple(sorted(names, key=lambda name: name != "moa"))

    @cached_property
    def scaled(self) -> Floats:
        """The vectors that are compared: under the encoder's transform, where one was chosen."""
        if self.transform is None:
            return self.vectors
        return self.transform.apply(self.vectors, self.rows.column("plate").to_pylist())

    @cached_property
    def norms(self) -> Floats:
        """Lengths of the scaled vectors, (images,)."""
        return np.asarray(np.linalg.norm(self.scaled, axis=1), np.float32)

    @cached_property
    def group(self) -> Integers:
        """The number of each image's group, in the order of ``group_ids``; -1 for images of no group."""
        return _numbers(self.table.column("group_id").combine_chunks(), self.group_ids)

    @cached_property
    def group_ids(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.table.column("group_id").unique().to_pylist() if name is not None))

    @cached_property
    def configuration(self) -> Integers:
        """The number of each image's configuration within its group; -1 for images of no group."""
        return np.asarray(self.table.column("configuration").fill_null(-1).to_numpy(), np.int64)

    def codes(self, column: str) -> Integers:
        """The values of a column as numbers, equal where the values are (null is a value too)."""
        found: Integers = self._codes.get(column, np.zeros(0, np.int64))
        if len(found) != len(self):
            found = np.asarray(
                self.table.column(column).combine_chunks().dictionary_encode(null_encoding="encode").indices, np.int64
            )
            self._codes[column] = found
        return found

    def matching(self, where: str | None) -> Integers | None:
        """Numbers of the rows that the expression lets pass, rising; None when there is no expression."""
        if where is None:
            return None
        with self._lock:
            return matching_rows(self._connection, where)

    def value_rows(self, column: str, value: Any) -> Integers:
        """Numbers of the rows that have this value in the column."""
        import pyarrow.compute as pc

        return np.flatnonzero(
            pc.equal((self.rows if column in self.rows.column_names else self.table).column(column), value)
            .fill_null(False)
            .to_numpy()
        )

    def numbered(self, columns: Sequence[str], rows: Integers) -> tuple[Integers, Integers]:
        """Number the combinations of these columns among the rows: each row's number, and a first row of each."""
        codes, first = number(*(self.codes(name)[rows] for name in columns))
        return codes, rows[first]

    @cached_property
    def _codes(self) -> dict[str, Integers]:
        return {}

    @cached_property
    def _lock(self) -> RLock:
        return RLock()

    @cached_property
    def _connection(self) -> Any:
        numbers = pa.array(np.arange(len(self), dtype=np.int64))
        return locked({"images": self.table.append_column(ROW, numbers)})


def load_images(scan: Scan, encoder: str, annotations: pa.Table, kind: str = "none") -> Images:
    """Read one encoder's images, and fit its kind of transform. Raises NotInStore where there are none."""
    found = scan.read(where='"encoder" = $p0', parameters=[encoder])
    if not len(found):
        raise NotInStore(f"encoder '{encoder}' has no images in the store; run: phenoembed index PLATES")
    order = np.asarray(_sort_order(found), np.int64)
    vectors = embedding_matrix(found.column("embedding"), encoder)
    rows = found.drop_columns(["embedding"])
    if not np.array_equal(order, np.arange(len(order))):
        vectors, rows = vectors[order], rows.take(pa.array(order))
    images = Images(encoder, scan.version, rows.combine_chunks(), vectors, annotations)
    if kind == "none":
        return images
    control = images.value_rows("role", "control")
    return replace(images, transform=fit(kind, encoder, vectors, rows.column("plate").to_pylist(), control))


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


def _sort_order(rows: pa.Table) -> pa.Array:
    import pyarrow.compute as pc

    return pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in IMAGE_KEY])


def _numbers(array: pa.Array, names: Sequence[str]) -> Integers:
    import pyarrow.compute as pc

    found = pc.index_in(array, value_set=pa.array(names, pa.string()))
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


UNSHOWN = frozenset((*FILE_SCHEMA.names, "encoder"))
"""Columns about the file and the encoder: no part of a hit."""
