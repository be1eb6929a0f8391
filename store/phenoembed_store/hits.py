"""The table of hits: what each hit is, what is known of it, and whether it shares a plate with the query."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.annotations import annotate_rows
from phenoembed_store.images import IMAGE_HIT, Images
from phenoembed_store.levels import Level

SHOWN = {
    "image": IMAGE_HIT,
    "group": ("compound", "group_id", "screen", "replicate", "set", "field", "role"),
    "treatment": ("compound", "concentration_um", "role"),
    "compound": ("compound", "role"),
}
"""Columns of a hit by level, before its score; annotations follow where all images of the hit agree on them."""


def hit_table(
    images: Images, units: Integers, level: Level | None, scores: Floats, query_rows: Integers | None
) -> pa.Table:
    """Hits as a table, best first. ``level`` is None at image level, where units are rows of ``images``."""
    if level is None:
        return _image_hits(images, units, scores, query_rows)
    rows = [level.units.of(int(unit)) for unit in units]
    first = pa.array([int(row[0]) for row in rows], pa.int64())
    columns: dict[str, Any] = {"rank": _ranks(len(units))}
    columns |= {name: images.column(name).take(first) for name in SHOWN[level.name]}
    columns |= _scored(scores, pa.array([len(row) for row in rows], pa.int32()))
    columns |= {name: _agreed(images, name, rows) for name in images.annotation_columns}
    columns["same_plate"] = _same_plate(images, rows, query_rows)
    return pa.table(columns)


def _image_hits(images: Images, rows: Integers, scores: Floats, query_rows: Integers | None) -> pa.Table:
    """Only the hits' own rows are touched, however many images the store has."""
    found = images.shown.take(_array(rows, pa.int64()))
    if len(images.annotations):
        found = annotate_rows(pa.Table.from_batches([found]), images.annotations)
    n, shown = len(rows), len(SHOWN["image"])
    same_plate = _same_plate(images, rows[:, None], query_rows)
    columns, names = found.columns, found.schema.names
    measured = _scored(scores, _ones(n))
    return pa.Table.from_arrays(
        [_ranks(n), *columns[:shown], *measured.values(), *columns[shown:], same_plate],
        ["rank", *names[:shown], *measured, *names[shown:], "same_plate"],
    )


@lru_cache(16)
def _ranks(n: int) -> pa.Array:
    return pa.array(np.arange(1, n + 1, dtype=np.int32))


@lru_cache(16)
def _ones(n: int) -> pa.Array:
    return pa.array(np.ones(n, np.int32))


def _array(values: Integers | Floats, kind: pa.DataType) -> pa.Array:
    """Values of this type as they lie: where much else was in the caches, ``pa.array`` takes 60 microseconds more."""
    as_they_lie = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(as_they_lie)])


def _scored(scores: Floats, n_images: pa.Array) -> dict[str, pa.Array]:
    unknown = _unknown(len(scores), pa.float64())
    return {"score": _array(scores, pa.float32()), "n_images": n_images, "p_value": unknown, "q_value": unknown}


@lru_cache(16)
def _unknown(n: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(n, kind)


def _agreed(images: Images, column: str, rows: list[Integers]) -> pa.Array:
    """The value of the hit's images where they agree (nulls aside), else null."""
    values = images.column(column).combine_chunks()
    found = []
    for row in rows:
        distinct = [value for value in values.take(pa.array(row)).unique().to_pylist() if value is not None]
        found.append(distinct[0] if len(distinct) == 1 else None)
    return pa.array(found, values.type)


def _same_plate(images: Images, rows: Sequence[Integers] | Integers, query_rows: Integers | None) -> pa.Array:
    """Whether a hit has a plate in common with the query; null for a query that is not of the store."""
    if query_rows is None:
        return _unknown(len(rows), pa.bool_())
    plates = images.places("plate")
    asked = np.unique(plates[query_rows])
    return pa.array([bool(np.isin(plates[row], asked).any()) for row in rows], pa.bool_())
