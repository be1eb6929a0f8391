"""The images of one encoder as the search and every question see them: sorted rows, and their vectors beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers, number
from phenoembed_store.annotations import annotate_rows
from phenoembed_store.filters import Filters
from phenoembed_store.gathered import Gathers
from phenoembed_store.grouping import assign_groups
from phenoembed_store.indexes import Index
from phenoembed_store.parts import Part, joined, sort_order
from phenoembed_store.quality import quality_flags
from phenoembed_store.schema import FILE_SCHEMA, IMAGES_SCHEMA, JUDGED, QUALITY, QUALITY_FLAG, Z_STACK
from phenoembed_store.subset import Subset
from phenoembed_store.transforms import Transform

GROUP_COLUMNS = ("group_id", "set", "configuration")
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
KNOWN_COLUMNS = frozenset((*IMAGES_SCHEMA.names, *QUALITY, Z_STACK, *GROUP_COLUMNS, QUALITY_FLAG))


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
        return joined([part.vectors for part in self.parts])

    @cached_property
    def scaled(self) -> Floats:
        """The vectors that are compared: under the encoder's transform, where one was chosen."""
        return self.vectors if self.transform is None else joined([part.scaled for part in self.parts])

    @cached_property
    def norms(self) -> Floats:
        """Lengths of the scaled vectors, (images,)."""
        return joined([part.norms for part in self.parts])

    @cached_property
    def shown(self) -> pa.RecordBatch:
        """What a hit shows of an image: IMAGE_HIT, then the columns that the manifest brought. One chunk."""
        brought = [name for name in self.rows.column_names if name not in KNOWN_COLUMNS]
        return self.rows.select([*IMAGE_HIT, *brought]).combine_chunks().to_batches()[0]

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
        return quality_flags(self.rows) if set(JUDGED) <= set(self.rows.column_names) else None

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
        return sort_order(self.rows)

    def codes(self, column: str) -> Integers:
        """The values of a column as numbers, equal where the values are (null is a value too)."""
        if column not in self._codes:
            values = self.column(column).combine_chunks().dictionary_encode(null_encoding="encode")
            self._codes[column] = np.asarray(values.indices, np.int64)
        return self._codes[column]

    def places(self, column: str) -> Integers:
        """As ``codes``, but that plates of one name in two screens are two."""
        if column != "plate" or not self.codes("screen").any():  # one screen: its code is 0
            return self.codes(column)
        if "screen/plate" not in self._codes:
            self._codes["screen/plate"] = number(self.codes("screen"), self.codes("plate"))[0]
        return self._codes["screen/plate"]

    def passing(self, where: str | None) -> Subset | None:
        """The rows that the expression lets pass; None when there is no expression. Raises QueryError."""
        return None if where is None else self._filters.passing(where)

    def matching(self, where: str | None) -> Integers | None:
        """Numbers of the rows that the expression lets pass, rising; None when there is no expression."""
        passing = self.passing(where)
        return None if passing is None else passing.rows

    def value_rows(self, column: str, value: Any) -> Integers:
        """Numbers of the rows that have this value in the column."""
        import pyarrow.compute as pc

        return np.flatnonzero(pc.equal(self.column(column), value).fill_null(False).to_numpy())

    def numbered(self, columns: Sequence[str], rows: Integers) -> tuple[Integers, Integers]:
        """Number the combinations of these columns among the rows: each row's number, and a first row of each."""
        codes, first = number(*(self.codes(name)[rows] for name in columns))
        return codes, rows[first]

    @cached_property
    def gathers(self) -> Gathers:
        """What filters that are asked again let pass, where there is an index."""
        return Gathers()

    @cached_property
    def _codes(self) -> dict[str, Integers]:
        return {}

    @cached_property
    def _filters(self) -> Filters:
        return Filters(self, (*GROUP_COLUMNS, QUALITY_FLAG))


def _numbers(array: pa.Array, names: Sequence[str]) -> Integers:
    import pyarrow.compute as pc

    found = pc.index_in(array, value_set=pa.array(names, pa.string()))
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


UNSHOWN = frozenset((*FILE_SCHEMA.names, *QUALITY, Z_STACK, "encoder"))
"""Columns about the file and the encoder: no part of a hit."""
