"""The table of hits: what each hit is, what is known of it, and whether it shares a plate with the query."""

from typing import Any

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats, Integers
from phenoembed_store.images import Images
from phenoembed_store.levels import Level

SHOWN = {
    "image": (
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
    ),
    "group": ("compound", "group_id", "screen", "replicate", "set", "field", "role"),
    "treatment": ("compound", "concentration_um", "role"),
    "compound": ("compound", "role"),
}
"""Columns of a hit by level, before its score; annotations follow where all images of the hit agree on them."""


def hit_table(
    images: Images, units: Integers, level: Level | None, scores: Floats, query_rows: Integers | None
) -> pa.Table:
    """Hits as a table, best first. ``level`` is None at image level, where units are rows of ``images``."""
    name = "image" if level is None else level.name
    rows = [np.array([unit]) if level is None else level.units.of(int(unit)) for unit in units]
    first = pa.array([int(row[0]) for row in rows], pa.int64())
    source = images.table.select([*SHOWN[name], *images.annotation_columns])
    found = source.take(first)
    columns: dict[str, Any] = {"rank": pa.array(range(1, len(units) + 1), pa.int32())}
    columns |= {column: found.column(column) for column in SHOWN[name]}
    columns["score"] = pa.array(scores, pa.float32())
    columns["n_images"] = pa.array([len(row) for row in rows], pa.int32())
    columns["p_value"] = pa.nulls(len(units), pa.float64())
    columns["q_value"] = pa.nulls(len(units), pa.float64())
    for column in images.annotation_columns:
        columns[column] = found.column(column) if level is None else _agreed(images, column, rows)
    columns["same_plate"] = _same_plate(images, rows, query_rows)
    return pa.table(columns)


def _agreed(images: Images, column: str, rows: list[Integers]) -> pa.Array:
    """The value of the hit's images where they agree (nulls aside), else null."""
    values = images.table.column(column).combine_chunks()
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
