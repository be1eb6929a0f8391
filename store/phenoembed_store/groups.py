"""The ``groups`` table, derived from the images: a row a group, with its embedding."""

import json
import logging
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from phenoembed_store.aggregate import Floats, Integers, Units
from phenoembed_store.errors import StoreError
from phenoembed_store.images import Images
from phenoembed_store.levels import build_level
from phenoembed_store.parts import embedding_matrix, read_part
from phenoembed_store.schema import GROUPS_SCHEMA
from phenoembed_store.tables import Scan, Table

log = logging.getLogger("phenoembed")

COPIED = ("group_id", "screen", "compound", "replicate", "set", "field", "role")
"""Columns that a group has from its images."""

MADE_FROM = "made_from"
"""Where the log of the groups table says what each encoder's groups were made from, with a checksum of them."""

REPLICATE = ("screen", "replicate")
"""Images of one replicate share groups, and the sizes of its control groups; of others nothing depends on them."""


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
        reason = str(error.__cause__ or error).splitlines()[0]
        log.warning("the groups table is damaged, the groups are made anew: %s", reason)
        return None
    if _checksum(rows) != checksum:
        log.warning("the groups table is damaged, the groups are made anew: its checksum differs")
        return None
    return rows


def write_groups(table: Table, images: Images, source: Table) -> None:
    """Bring one encoder's groups up to date; others stay, unless the table is damaged.

    ``source``: the images table. Where nothing but whole replicates has come since the groups were made, their groups
    are appended, which takes as long in a large store as in a small one; else all are made anew.
    """
    from deltalake.exceptions import DeltaError

    try:
        scan = table.at()
        made = _made_from(scan)
        version, _, checksum = made.get(images.encoder, "").rpartition("/")
        late = _late_replicates(version, images, source)
        rows = group_rows(images if late is None else late)
        total = int(_checksum(rows), 16) + (0 if late is None else int(checksum, 16))
        properties = {MADE_FROM: json.dumps({**made, images.encoder: f"{_origin(images)}/{_hexadecimal(total)}"})}
        if late is not None:
            table.append(rows, scan.version, properties=properties)
            return
        quoted = images.encoder.replace("'", "''")
        table.replace(rows, scan.version, f"encoder = '{quoted}'" if made else None, properties=properties)
    except (StoreError, DeltaError, OSError):  # it can be made from the images at any time
        rows = group_rows(images)
        shutil.rmtree(table.path, ignore_errors=True)
        made_of = {images.encoder: f"{_origin(images)}/{_checksum(rows)}"}
        table.replace(rows, -1, properties={MADE_FROM: json.dumps(made_of)})


def _late_replicates(made: str, images: Images, source: Table) -> Images | None:
    """The images that came after the groups were made, where they are whole replicates; None where they are not.

    ``made``: what the groups were made from.
    """
    version = made.partition("/")[0]
    if images.transform is not None or not version.isdecimal() or made != f"{version}/none":
        return None  # new plates bring new controls, and with them another transform
    try:
        then, now = (replace(source, pinned=at).at() for at in (int(version), images.version))
    except StoreError:  # that version is gone
        return None
    appended = then.version == int(version) and set(then.files) < set(now.files)
    tail = read_part(now.without(then.files), images.encoder) if appended else None
    if tail is None:
        return None
    replicates = tail.rows.select(list(REPLICATE)).group_by(list(REPLICATE)).aggregate([])
    theirs = images.rows.select(list(REPLICATE)).join(replicates, list(REPLICATE), join_type="left semi")
    if len(theirs) != len(tail.rows):
        return None
    return Images(images.encoder, images.version, (tail,), images.annotations)


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
    """Of the groups' ids, their images and their embeddings: a sum over the rows, to which later rows can be added."""
    named = zip(rows.column("group_id").to_pylist(), rows.column("n_images").to_pylist(), strict=True)
    vectors = np.ascontiguousarray(embedding_matrix(rows.column("embedding"), "groups"))
    return _hexadecimal(sum(map(zlib.crc32, vectors, (zlib.crc32(repr(one).encode()) for one in named))))


def _hexadecimal(checksum: int) -> str:
    return f"{checksum % 2**64:016x}"


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
