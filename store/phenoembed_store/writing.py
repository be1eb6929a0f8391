"""Writing images: which rows are new, which changed, which are there already; then one transaction for them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from phenoembed_store.engine import quoted, session
from phenoembed_store.errors import StoreError
from phenoembed_store.parts import embedding_matrix
from phenoembed_store.schema import (
    FILE_SCHEMA,
    IMAGE_KEY,
    IMAGES_SCHEMA,
    QUALITY,
    REJECTED_SCHEMA,
    SCREEN_SCHEMA,
    as_called,
    kept_type,
)
from phenoembed_store.tables import Scan, Table

KEY = (*IMAGE_KEY, "encoder")
NOT_COMPARED = frozenset(
    (*KEY, "embedding", *(name for name in (*FILE_SCHEMA.names, *QUALITY) if name != "content_hash"))
)
"""A row is the same if all its other columns are: touching a file, or encoding it again, changes nothing."""

log = logging.getLogger("phenoembed")


@dataclass(frozen=True)
class Written:
    """What one write did, in images. Rows that were there already, unchanged, are in none of the counts."""

    added: int = 0
    updated: int = 0
    rejected: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(self.added + other.added, self.updated + other.updated, self.rejected + other.rejected)


def write_accepted(images: Table, rejected: Table, rows: pa.Table) -> Written:
    """Append or update images; each leaves ``rejected``. Called with the store locked.

    The key leaves ``rejected`` first: a crash in between leaves it in neither table, and the next run indexes it.
    """
    scan = images.at()
    rows = _checked(rows, scan)
    _leave(rejected, rows)
    known, changed = _compare(rows, scan)
    wanted = rows.filter(pa.array(~known | changed))
    added, updated = int((~known).sum()), int((known & changed).sum())
    log.debug("writing images: %d new, %d changed", added, updated)
    if updated:
        images.upsert(wanted, KEY, scan.version)
    elif added:
        images.append(wanted, scan.version)
    log.debug("wrote images")
    return Written(added, updated)


def write_rejected(images: Table, rejected: Table, rows: pa.Table) -> Written:
    """Keep the images that could not be used, and why; each leaves ``images``. Called with the store locked."""
    missing = [name for name in REJECTED_SCHEMA.names if name not in rows.column_names]
    if missing:
        raise StoreError(f"rejected images lack the column '{missing[0]}'")
    rows = rows.select(REJECTED_SCHEMA.names).cast(REJECTED_SCHEMA)
    _refuse_encoders(rows)
    _leave(images, rows)
    refuse_doubles(rows, KEY)
    scan = rejected.at()
    known, changed = _compare(rows, scan)
    log.debug("writing rejected: %d", len(rows))
    if known.any() and (~known | changed).any():
        rejected.upsert(rows, KEY, scan.version)
    elif not known.all():
        rejected.append(rows, scan.version)
    return Written(rejected=len(rows))


def update_metadata(images: Table, rows: pa.Table, encoder: str) -> int:
    """Rewrite the metadata of images whose file did not change; what is stored of the file is kept."""
    scan = images.at()
    keys = rows.select(list(IMAGE_KEY))
    where = near(keys, encoder)
    of_files = [*FILE_SCHEMA.names, *(name for name in QUALITY if name in scan.schema.names), "encoder", "embedding"]
    with session() as connection:
        connection.register("stored", scan.read([*IMAGE_KEY, *of_files], *where))
        connection.register("new", rows.append_column("_n", pa.array(np.arange(len(rows)))))
        kept = ", ".join(f"s.{quoted(name)}" for name in of_files)
        full = connection.sql(
            f"SELECT new.* EXCLUDE (_n), {kept} FROM new JOIN stored s USING ({_listed(IMAGE_KEY)}) ORDER BY _n"
        ).to_arrow_table()
    full = _checked(full, scan)
    known, changed = _compare(full, scan)
    if (known & changed).any():
        images.upsert(full.filter(pa.array(known & changed)), KEY, scan.version)
    return int((known & changed).sum())


def remove_keys(table: Table, keys: pa.Table) -> int:
    """Remove the rows with these keys; how many were there."""
    if not len(keys):
        return 0
    scan = table.at()
    known, _ = _compare(keys.select(list(KEY)), scan, columns=())
    if known.any():
        table.remove(keys.filter(pa.array(known)), KEY, scan.version)
    return int(known.sum())


def _leave(table: Table, rows: pa.Table) -> None:
    remove_keys(table, rows.select(list(KEY)))


def _checked(rows: pa.Table, scan: Scan) -> pa.Table:
    """The rows with the table's columns and types. Raises StoreError, naming what does not fit."""
    missing = [name for name in IMAGES_SCHEMA.names if name not in rows.column_names]
    if missing:
        raise StoreError(f"images lack the column '{missing[0]}'")
    rows = as_called(rows, scan.schema.names)
    for field in rows.schema:
        column = _as_stored(rows.column(field.name), field.name, scan.schema)
        if column.type != field.type:
            rows = rows.set_column(rows.column_names.index(field.name), field.name, column)
    for name in KEY:
        if rows.column(name).null_count:
            raise StoreError(f"column '{name}' is part of an image's key and cannot be empty")
    _refuse_encoders(rows)
    if len(rows):
        _check_embeddings(rows, scan, rows.column("encoder")[0].as_py())
    refuse_doubles(rows, KEY)
    for field in scan.schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field.name, pa.nulls(len(rows), field.type))
    return rows


def _refuse_encoders(rows: pa.Table) -> None:
    """Raise StoreError where rows are of several encoders: what is stored of one is compared."""
    encoders = rows.column("encoder").unique().to_pylist()
    if len(encoders) > 1:
        raise StoreError(f"one encoder at a time can be written, not {len(encoders)}: {', '.join(encoders)}")


def _check_embeddings(rows: pa.Table, scan: Scan, encoder: str) -> None:
    vectors = embedding_matrix(rows.column("embedding"), encoder)
    if not np.isfinite(vectors).all():
        bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise StoreError(f"the embedding of row {bad} ({rows.column('path')[bad].as_py()}) is not finite")
    dim = stored_dim(scan, encoder)
    if dim is not None and dim != vectors.shape[1]:
        raise StoreError(f"embeddings of '{encoder}' have {dim} numbers in the store, these have {vectors.shape[1]}")


def stored_dim(scan: Scan, encoder: str) -> int | None:
    """The length of an encoder's embeddings; None where it has none."""
    first = scan.read(["embedding"], '"encoder" = $p0 LIMIT 1', [encoder])
    return len(first.column("embedding")[0]) if len(first) else None


def refuse_doubles(rows: pa.Table, key: Sequence[str]) -> None:
    """Raise StoreError, naming the first, where two rows have one key."""
    counts = rows.group_by(list(key), use_threads=False).aggregate([([], "count_all")])
    if len(counts) < len(rows):
        import pyarrow.compute as pc

        twice = counts.filter(pc.greater(counts.column("count_all"), 1)).slice(0, 1).to_pylist()[0]
        raise StoreError("one image is given twice: " + ", ".join(f"{name} {twice[name]}" for name in IMAGE_KEY))


def _as_stored(column: pa.ChunkedArray, name: str, stored: pa.Schema) -> pa.ChunkedArray:
    """A column in a type that Delta has, and in the type the table has it in."""
    if name in stored.names:
        wanted = stored.field(name).type
    elif name in IMAGES_SCHEMA.names:
        wanted = IMAGES_SCHEMA.field(name).type
    else:
        wanted = kept_type(name, column.type)
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(
            f"column '{name}' holds {wanted} in the store and cannot take {column.type} ({error}); "
            "rename it, or bring it in that type"
        ) from None


def _compare(
    rows: pa.Table, scan: Scan, columns: Sequence[str] | None = None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """For every row: is its key in the table, and does one of its columns differ there?

    columns: the columns to compare; by default every one but those of NOT_COMPARED.
    """
    if not scan.files or not len(rows):
        return np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    compared = [name for name in scan.schema.names if name not in NOT_COMPARED] if columns is None else list(columns)
    stored = scan.read([*KEY, *compared], *near(rows, rows.column("encoder")[0].as_py()))
    differs = [
        f"s.{quoted(name)} IS DISTINCT FROM n.{quoted(name)}"
        if name in rows.column_names
        else f"s.{quoted(name)} IS NOT NULL"
        for name in compared
    ]
    differs += [
        f"n.{quoted(name)} IS NOT NULL" for name in rows.column_names if name not in {*scan.schema.names, *NOT_COMPARED}
    ]
    with session() as connection:
        shown = [name for name in rows.column_names if name not in NOT_COMPARED or name in KEY]
        connection.register("n", rows.select(shown).append_column("_n", pa.array(np.arange(len(rows)))))
        connection.register("s", stored.append_column("_there", pa.array([True] * len(stored))))
        found = connection.sql(
            f"SELECT coalesce(_there, false) AS known, coalesce(_there AND ({' OR '.join(differs) or 'false'}), false) "
            f"AS changed FROM n LEFT JOIN s USING ({_listed(KEY)}) ORDER BY _n"
        ).fetchnumpy()
    return np.asarray(found["known"], np.bool_), np.asarray(found["changed"], np.bool_)


def near(keys: pa.Table, encoder: str) -> tuple[str, list[object]]:
    """A condition that holds for every row on the plates of these, and that a file's statistics can refute."""
    import pyarrow.compute as pc

    plates = pc.min_max(keys.column("plate")).as_py()
    return '"encoder" = $p0 AND "plate" BETWEEN $p1 AND $p2', [encoder, plates["min"], plates["max"]]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def with_screen_columns(rows: pa.Table) -> pa.Table:
    """The rows with SCREEN_SCHEMA's columns in their types, annotations behind them."""
    front = [rows.column(field.name).cast(field.type) for field in SCREEN_SCHEMA]
    others = [name for name in rows.column_names if name not in SCREEN_SCHEMA.names]
    return pa.table([*front, *(rows.column(name) for name in others)], names=[*SCREEN_SCHEMA.names, *others])
