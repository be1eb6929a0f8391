"""The table of hits: what each hit is, what is known of it, and whether it shares a plate with the query."""

from typing import Any

import numpy as np
import numpy.typing as npt
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
    columns: dict[str, Any] = {"rank": pa.array(range(1, len(units) + 1), pa.int32())}
    columns |= {name: images.column(name).take(first) for name in SHOWN[level.name]}
    columns |= _scored(scores, np.array([len(row) for row in rows], np.int32))
    columns |= {name: _agreed(images, name, rows) for name in images.annotation_columns}
    columns["same_plate"] = _same_plate(images, rows, query_rows)
    return pa.table(columns)


def _image_hits(images: Images, rows: Integers, scores: Floats, query_rows: Integers | None) -> pa.Table:
    """Only the hits' own rows are touched, however many images the store has."""
    found = images.shown.take(pa.array(rows))
    if len(images.annotations):
        found = annotate_rows(found, images.annotations)
    shown = len(SHOWN["image"])
    ranks = pa.array(np.arange(1, len(rows) + 1, dtype=np.int32))
    measured = _scored(scores, np.ones(len(rows), np.int32))
    same_plate = _same_plate(images, [rows[i : i + 1] for i in range(len(rows))], query_rows)
    names = found.column_names
    return pa.Table.from_arrays(
        [ranks, *found.columns[:shown], *measured.values(), *found.columns[shown:], same_plate],
        ["rank", *names[:shown], *measured, *names[shown:], "same_plate"],
    )


def _scored(scores: Floats, n_images: npt.NDArray[np.int32]) -> dict[str, pa.Array]:
    unknown = pa.nulls(len(scores), pa.float64())
    return {"score": pa.array(scores), "n_images": pa.array(n_images), "p_value": unknown, "q_value": unknown}


def _agreed(images: Images, column: str, rows: list[Integers]) -> pa.Array:
    """The value of the hit's images where they agree (nulls aside), else null."""
    values = images.column(column).combine_chunks()
    found = []
    for row in rows:
        distinct = [value for value in values.take(pa.array(row)).unique().to_pylist() if value is not None]
        found.append(distinct[0] if len(distinct) == 1 else None)
    return pa.array(found, values.type)


def _same_plate(images: Images, rows: list[Integers], query_rows: Integers | None) -> pa.Array:
    """Whether a hit has a plate in common with the query; null for a query that is not of the store."""
    if query_rows is None:
        return pa.nulls(len(rows), pa.bool_())
    plates = images.codes("plate")
    asked = np.unique(plates[query_rows])
    return pa.array([bool(np.isin(plates[row], asked).any()) for row in rows], pa.bool_())
