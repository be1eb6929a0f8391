"""The images of one encoder as the search and every question see them: sorted rows, and their vectors beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers, number
from phenoembed_store.annotations import annotate_rows
from phenoembed_store.errors import StoreError
from phenoembed_store.filters import ROW, check_expression, columns_of, matching_rows
from phenoembed_store.grouping import assign_groups
from phenoembed_store.indexes import Index
from phenoembed_store.quality import quality_flags
from phenoembed_store.schema import FILE_SCHEMA, IMAGE_KEY, IMAGES_SCHEMA, QUALITY, QUALITY_FLAG
from phenoembed_store.sql import locked
from phenoembed_store.tables import Scan
from phenoembed_store.transforms import Transform, fit

GROUP_COLUMNS = ("group_id", "set", "configuration")
REMEMBERED = 64
"""Filters whose rows are kept at hand."""
IMAGE_HIT = (
    "compound",
    "concentration_um",
    "plate",
    "well",
    "field",
    "time_h",
    "channel",
    "z",
    "replicate",
    "screen",
    "role",
    "path",
)
KNOWN_COLUMNS = frozenset((*IMAGES_SCHEMA.names, *QUALITY, *GROUP_COLUMNS, QUALITY_FLAG))


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
class Images:
    """One encoder's images at one version of the tables.

    Where the store is large the first part is that of ``index``; images that came later follow in a part of their
    own. Each part is sorted by the image key.
    """

    encoder: str
    version: int
    parts: tuple[Part, ...]
    annotations: pa.Table
    transform: Transform | None = None
    index: Index | None = None

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    @property
    def dim(self) -> int:
        return int(self.parts[0].vectors.shape[1])

    @cached_property
    def rows(self) -> pa.Table:
        """Metadata, without embeddings, annotations and places."""
        if len(self.parts) == 1:
            return self.parts[0].rows
        return pa.concat_tables([part.rows for part in self.parts], promote_options="permissive").combine_chunks()

    @cached_property
    def vectors(self) -> Floats:
        """Embeddings as the encoder made them, (images, dim); a copy only where there are two parts."""
        return _joined([part.vectors for part in self.parts])

    @cached_property
    def scaled(self) -> Floats:
        """The vectors that are compared: under the encoder's transform, where one was chosen."""
        return self.vectors if self.transform is None else _joined([part.scaled for part in self.parts])

    @cached_property
    def norms(self) -> Floats:
        """Lengths of the scaled vectors, (images,)."""
        return _joined([part.norms for part in self.parts])

    @cached_property
    def shown(self) -> pa.Table:
        """What a hit shows of an image: IMAGE_HIT, then the columns that the manifest brought."""
        brought = [name for name in self.rows.column_names if name not in KNOWN_COLUMNS]
        return self.rows.select([*IMAGE_HIT, *brought])

    @cached_property
    def annotated(self) -> pa.Table:
        """Rows with their annotations."""
        return annotate_rows(self.rows, self.annotations)

    @cached_property
    def table(self) -> pa.Table:
        """Rows with their annotations and their place: group_id, set, configuration."""
        placed = assign_groups(self.rows).select(list(GROUP_COLUMNS))
        table = self.annotated
        for name in GROUP_COLUMNS:
            table = table.append_column(name, placed.column(name))
        return table if self._flags is None else table.append_column(QUALITY_FLAG, self._flags)

    @cached_property
    def _flags(self) -> pa.Array | None:
        """What is unusual of each image; None where no image's quality was judged."""
        return quality_flags(self.rows) if set(QUALITY) <= set(self.rows.column_names) else None

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of ``table``; one that says nothing of places is had without working them out."""
        if name == QUALITY_FLAG and self._flags is not None:
            return pa.chunked_array([self._flags])
        return (self.table if name in GROUP_COLUMNS else self.annotated).column(name)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        flag = () if self._flags is None else (QUALITY_FLAG,)
        return (*self.annotated.column_names, *GROUP_COLUMNS, *flag)

    @cached_property
    def annotation_columns(self) -> tuple[str, ...]:
        """Columns that the store does not know itself, ``moa`` first."""
        names = [name for name in self.annotated.column_names if name not in KNOWN_COLUMNS]
        return tuple(sorted(names, key=lambda name: name != "moa"))

    @cached_property
    def group(self) -> Integers:
        """The number of each image's group, in the order of ``group_ids``; -1 for images of no group."""
        return _numbers(self.column("group_id").combine_chunks(), self.group_ids)

    @cached_property
    def group_ids(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.column("group_id").unique().to_pylist() if name is not None))

    @cached_property
    def configuration(self) -> Integers:
        """The number of each image's configuration within its group; -1 for images of no group."""
        return np.asarray(self.column("configuration").fill_null(-1).to_numpy(), np.int64)

    def sort_order(self) -> Integers:
        """The rows in the order of the image key."""
        return np.asarray(_sort_order(self.rows), np.int64)

    def codes(self, column: str) -> Integers:
        """The values of a column as numbers, equal where the values are (null is a value too)."""
        if column not in self._codes:
            values = self.column(column).combine_chunks().dictionary_encode(null_encoding="encode")
            self._codes[column] = np.asarray(values.indices, np.int64)
        return self._codes[column]

    def matching(self, where: str | None) -> Integers | None:
        """Numbers of the rows that the expression lets pass, rising; None when there is no expression."""
        if where is None:
            return None
        with self._lock:
            if where not in self._matching:
                while len(self._matching) >= REMEMBERED:
                    self._matching.pop(next(iter(self._matching)))
                self._matching[where] = self._find(where)
            return self._matching[where]

    def _find(self, where: str) -> Integers:
        wanted = set(columns_of(check_expression(where)))
        places = wanted & {
            *GROUP_COLUMNS,
            QUALITY_FLAG,
        }  # costly to work out for a large store: only where they are asked for
        key = "table" if places else "annotated"
        if key not in self._connections:
            numbers = pa.array(np.arange(len(self), dtype=np.int64))
            source = self.table if places else self.annotated
            self._connections[key] = locked({"images": source.append_column(ROW, numbers)})
        return matching_rows(self._connections[key], where)

    def value_rows(self, column: str, value: Any) -> Integers:
        """Numbers of the rows that have this value in the column."""
        import pyarrow.compute as pc

        return np.flatnonzero(pc.equal(self.column(column), value).fill_null(False).to_numpy())

    def numbered(self, columns: Sequence[str], rows: Integers) -> tuple[Integers, Integers]:
        """Number the combinations of these columns among the rows: each row's number, and a first row of each."""
        codes, first = number(*(self.codes(name)[rows] for name in columns))
        return codes, rows[first]

    @cached_property
    def _codes(self) -> dict[str, Integers]:
        return {}

    @cached_property
    def _matching(self) -> dict[str, Integers]:
        return {}

    @cached_property
    def _connections(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _lock(self) -> RLock:
        return RLock()


def read_part(scan: Scan, encoder: str, transform: Transform | None = None) -> Part | None:
    """One encoder's images from the table, sorted by key; None where there are none."""
    found = scan.read(where='"encoder" = $p0', parameters=[encoder])
    if not len(found):
        return None
    order = np.asarray(_sort_order(found), np.int64)
    vectors = embedding_matrix(found.column("embedding"), encoder)
    rows = found.drop_columns(["embedding"])
    if not np.array_equal(order, np.arange(len(order))):
        vectors, rows = vectors[order], rows.take(pa.array(order))
    return make_part(rows.combine_chunks(), vectors, transform)


def make_part(rows: pa.Table, vectors: Floats, transform: Transform | None) -> Part:
    scaled = vectors if transform is None else transform.apply(vectors, rows.column("plate").to_pylist())
    return Part(rows, vectors, scaled, np.asarray(np.linalg.norm(scaled, axis=1), np.float32))


def fit_to(part: Part, kind: str, encoder: str) -> Transform | None:
    """The transform of this kind, fitted to the part's controls."""
    if kind == "none":
        return None
    control = np.flatnonzero(part.rows.column("role").to_numpy() == "control")
    return fit(kind, encoder, part.vectors, part.rows.column("plate").to_pylist(), control)


def _joined(arrays: Sequence[Floats]) -> Floats:
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


def _sort_order(rows: pa.Table) -> pa.Array:
    import pyarrow.compute as pc

    return pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in IMAGE_KEY])


def _numbers(array: pa.Array, names: Sequence[str]) -> Integers:
    import pyarrow.compute as pc

    found = pc.index_in(array, value_set=pa.array(names, pa.string()))
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


UNSHOWN = frozenset((*FILE_SCHEMA.names, *QUALITY, "encoder"))
"""Columns about the file and the encoder: no part of a hit."""
