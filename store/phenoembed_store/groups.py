"""The ``groups`` table, derived from the images: a row a group, with its embedding."""

import json
import logging
import shutil
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from phenoembed_store.aggregate import Floats, Integers, Units
from phenoembed_store.errors import StoreError
from phenoembed_store.images import Images
from phenoembed_store.levels import build_level
from phenoembed_store.parts import embedding_matrix
from phenoembed_store.schema import GROUPS_SCHEMA
from phenoembed_store.tables import Scan, Table

log = logging.getLogger("phenoembed")

COPIED = ("group_id", "screen", "compound", "replicate", "set", "field", "role")
"""Columns that a group has from its images."""

MADE_FROM = "images_versions"
"""Where the log of the groups table says what each encoder's groups were made from, with a checksum of them."""


def stored_groups(table: Table, images: Images) -> pa.Table | None:
    """One encoder's groups as they are stored, by group_id.

    None where they are behind the images; damaged (with a word in the log); or were never made.
    """
    try:
        scan = table.at()
        made, _, checksum = _made_from(scan).get(images.encoder, "").rpartition("/")
        if made != _origin(images):
            return None
        rows = scan.read(where='"encoder" = $p0', parameters=[images.encoder]).sort_by("group_id")
    except StoreError as error:
        log.warning("the groups table is damaged, the groups are made anew: %s", error.__cause__ or error)
        return None
    if _checksum(rows) != checksum:
        log.warning("the groups table is damaged, the groups are made anew: its checksum differs")
        return None
    return rows


def write_groups(table: Table, images: Images) -> None:
    """Replace one encoder's groups; others stay, unless the table is damaged."""
    from deltalake.exceptions import DeltaError

    rows = group_rows(images)
    made = f"{_origin(images)}/{_checksum(rows)}"
    quoted = images.encoder.replace("'", "''")
    try:
        others = _made_from(table.at())
        properties = {MADE_FROM: json.dumps({**others, images.encoder: made})}
        where = f"encoder = '{quoted}'" if others else None
        table.replace(rows, table.version(), where, properties=properties)
    except (StoreError, DeltaError, OSError):  # it can be made from the images at any time
        shutil.rmtree(table.path, ignore_errors=True)
        table.replace(rows, -1, properties={MADE_FROM: json.dumps({images.encoder: made})})


def _origin(images: Images) -> str:
    """What groups are made from: a version of the images, under a transform."""
    return f"{images.version}/{images.transform.id if images.transform else 'none'}"


def _made_from(scan: Scan) -> dict[str, str]:
    """What each encoder's groups were made from; empty when nobody knows."""
    try:
        return {str(name): str(made) for name, made in json.loads(scan.properties[MADE_FROM]).items()}
    except (KeyError, ValueError, AttributeError):
        return {}


def _checksum(rows: pa.Table) -> str:
    """Of the groups' ids, their images and their embeddings."""
    named = repr([rows.column(name).to_pylist() for name in ("group_id", "n_images")])
    vectors = np.ascontiguousarray(embedding_matrix(rows.column("embedding"), "groups"))
    return f"{zlib.crc32(vectors.tobytes(), zlib.crc32(named.encode())):08x}"


def group_rows(images: Images) -> pa.Table:
    """One encoder's groups with the columns of GROUPS_SCHEMA, by group_id."""
    level = build_level(images, "group")
    n = len(level)
    first = pa.array(level.units.rows[level.units.starts[:-1]])
    table = images.table.select(list(COPIED)).take(first)
    configurations = np.bincount(_distinct(images.configuration, level.units)[0], minlength=n)
    columns = {
        "n_images": pa.array(level.units.counts()),
        "n_configurations": pa.array(configurations),
        "plates": _names_of(images, "plate", level.units),
        "wells": _names_of(images, "well", level.units),
        "encoder": pa.array([images.encoder] * n, pa.string()),
        "embedding": vectors_column(level.embeddings),
    }
    arrays = [columns[f.name] if f.name in columns else table.column(f.name) for f in GROUPS_SCHEMA]
    return pa.table([array.cast(f.type) for array, f in zip(arrays, GROUPS_SCHEMA, strict=True)], GROUPS_SCHEMA)


def vectors_column(vectors: Floats) -> pa.Array:
    """Vectors (rows, dim) as an Arrow list column, without a copy."""
    n, dim = vectors.shape
    offsets = pa.array(np.arange(0, (n + 1) * dim, dim, dtype=np.int64) if dim else np.zeros(n + 1, np.int64))
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return (
        pa.ListArray.from_arrays(offsets.cast(pa.int32()), values)
        if n * dim < 2**31
        else pa.LargeListArray.from_arrays(offsets, values)
    )


def _names_of(images: Images, column: str, units: Units) -> pa.Array:
    """Of each unit the distinct values, sorted."""
    values = images.column(column).combine_chunks().dictionary_encode()
    order = pc.sort_indices(values.dictionary)
    place = np.empty(len(order), np.int64)
    place[np.asarray(order)] = np.arange(len(order))
    unit, name = _distinct(place[np.asarray(values.indices)], units)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=len(units)))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.dictionary.take(order).take(pa.array(name)))


def _distinct(codes: Integers, units: Units) -> tuple[Integers, Integers]:
    """The distinct pairs of a unit and a code (0 or more) of its images, in order."""
    unit = np.repeat(np.arange(len(units)), units.counts())
    most = int(codes.max(initial=0)) + 1
    pairs = np.unique(unit * most + codes[units.rows])
    return pairs // most, pairs % most
