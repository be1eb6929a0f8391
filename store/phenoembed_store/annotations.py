"""What is known of compounds, of doses and of wells, joined to images at reading: the ``annotations`` table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from phenoembed_store.columns import as_wells, in_micromolar, renaming
from phenoembed_store.engine import session
from phenoembed_store.errors import StoreError, one_line
from phenoembed_store.reading import read_table
from phenoembed_store.schema import RESERVED, SCREEN_SCHEMA, as_called, kept_type

KEYS: dict[str, tuple[str, ...]] = {
    "compound": ("compound",),
    "inchikey": ("inchikey",),  # after compound: that join may bring the InChIKey
    "compound,concentration_um": ("compound", "concentration_um"),
    "plate,well": ("plate", "well"),
}
"""What a table can be joined on, the general first: where two tables know a column, the more particular one wins."""

SYNONYMS = {
    "concentration": "concentration_um",
    "well_position": "well",
    "well_id": "well",
    "assay_plate_barcode": "plate",
    "plate_barcode": "plate",
}
KEY_TYPES = {"concentration_um": pa.float64()}
ANNOTATIONS_SCHEMA = pa.schema(
    [
        ("joined_on", pa.string()),  # one of KEYS
        ("compound", pa.string()),
        ("inchikey", pa.string()),
        ("concentration_um", pa.float64()),
        ("plate", pa.string()),
        ("well", pa.string()),
    ]
)
"""The ``annotations`` table: a row a key. The columns that a user brings follow."""

_STRUCTURE = frozenset(("joined_on", "compound", "concentration_um", "plate", "well"))


def read_annotations(source: Path | pa.Table, on: str, mapping: Mapping[str, str] | None = None) -> pa.Table:
    """A table of annotations, its keys under our names and typed. ``mapping``: ours -> theirs. Raises StoreError."""
    if on not in KEYS:
        raise StoreError(f"cannot join on '{on}'; one of: {' | '.join(KEYS)}")
    table = source if isinstance(source, pa.Table) else read_table(source)
    theirs = {name: ours for ours, name in (mapping or {}).items()}
    if absent := [name for name in theirs if name not in table.column_names]:
        raise StoreError(f"--map: the table has no column '{absent[0]}'; it has: {', '.join(table.column_names)}")
    names = [theirs.get(name) or _our_name(name, KEYS[on]) for name in table.column_names]
    original, table = table.column_names, as_called(table.rename_columns(names), KEYS[on])
    names = table.column_names
    missing = [key for key in KEYS[on] if key not in names]
    if missing:
        raise StoreError(
            f"the table has no column '{missing[0]}' to join on; it has: {', '.join(original)} "
            f"(--map {missing[0]}=THEIRS names one)"
        )
    dose = names.index("concentration_um") if "concentration_um" in KEYS[on] else None
    if dose is not None:
        table = table.set_column(dose, "concentration_um", in_micromolar(table.column(dose), original[dose]))
    taken = [name for name in names if name.casefold() in SCREEN_SCHEMA.names and name not in KEYS[on]]
    table = table.drop_columns(taken)  # they describe images; an annotation cannot change them
    _check_columns([name for name in table.column_names if name not in KEYS[on]], taken, KEYS[on])
    for key in KEYS[on]:
        table = table.set_column(table.column_names.index(key), key, _typed(table.column(key), key))
    table = table.cast(pa.schema([(field.name, kept_type(field.name, field.type)) for field in table.schema]))
    found = _distinct(table, KEYS[on])
    if not len(found):
        raise StoreError(f"the table has no row with a {' and a '.join(KEYS[on])}")
    return found


def _check_columns(names: Sequence[str], taken: Sequence[str], keys: Sequence[str]) -> None:
    """Raise StoreError where no column is left to add, or a name cannot be one of the store's."""
    if not names:
        left_out = f"{', '.join(taken)} describe images, which their plates do: `phenoembed index`" if taken else "none"
        raise StoreError(f"the table has nothing to add beside {', '.join(keys)} ({left_out})")
    for name in names:
        if name.casefold() in RESERVED:
            raise StoreError(f"the store has a column '{name}' of its own: --map my_{name.casefold()}={name}")
        if '"' in name or not name.isprintable():
            raise StoreError(f"a column cannot be called {one_line(name)!r}: {renaming(name)}")


def merge_annotations(known: pa.Table, new: pa.Table, on: str) -> pa.Table:
    """The annotations table after ``new`` came: it replaces its own columns of its own keys; all else stays."""
    keys = KEYS[on]
    known, new = _of_one_kind(known, as_called(new, known.column_names), keys)
    named = new.append_column("joined_on", pa.array([on] * len(new), pa.string()))
    match = " AND ".join(f'k."{key}" = n."{key}"' for key in keys)
    with session() as connection:
        connection.register("k", known)
        connection.register("n", named)
        others = "".join(f', k."{name}"' for name in known.column_names if name not in named.column_names)
        renewed = connection.sql(
            f"SELECT n.*{others} FROM n LEFT JOIN k ON k.joined_on = $p AND {match}", params={"p": on}
        ).to_arrow_table()
        connection.register("renewed", renewed)
        kept = connection.sql(
            f"SELECT * FROM k WHERE joined_on <> $p OR NOT EXISTS (FROM n WHERE {match})", params={"p": on}
        ).to_arrow_table()
        connection.register("kept", kept)
        merged = connection.sql("SELECT * FROM kept UNION ALL BY NAME SELECT * FROM renewed").to_arrow_table()
    front = [name for name in ANNOTATIONS_SCHEMA.names if name in merged.column_names]
    columns = [*front, *(name for name in merged.column_names if name not in front)]
    return _complete(merged.select(columns))


def _of_one_kind(known: pa.Table, new: pa.Table, keys: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Both tables, a column that holds nothing being of the other's type.

    Raises StoreError where a column holds another kind of value than the stored one; numbers are of one kind.
    """
    for name in set(known.column_names) & set(new.column_names) - set(keys):
        stored, column = known.column(name), new.column(name)
        kinds = [_kind(one.type) for one in (stored, column)]
        if column.null_count == len(column):
            new = _typed_nulls(new, name, stored.type)
        elif stored.null_count == len(stored):
            known = _typed_nulls(known, name, column.type)
        elif kinds[0] != kinds[1]:
            value = next(value for value in column.to_pylist() if value is not None)
            raise StoreError(
                f"column '{name}' holds {kinds[0]} in the store, and {kinds[1]} ('{value}') here: "
                f"mend the table, or give the column another name (--map NEW_NAME={name})"
            )
    return known, new


def _typed_nulls(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.nulls(len(table), kind))


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numbers"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else f"{kind}s"


def annotate_rows(rows: pa.Table, annotations: pa.Table) -> pa.Table:
    """Join the annotations to the rows; where both know a column, the annotation wins unless it is null."""
    for on, keys in KEYS.items():
        if len(annotations) and all(key in rows.column_names for key in keys):
            rows = _join(rows, annotations, on)
    return rows


def _join(rows: pa.Table, annotations: pa.Table, on: str) -> pa.Table:
    import pyarrow.compute as pc

    mine = annotations.filter(pc.equal(annotations.column("joined_on"), on))
    values = [
        name
        for name in mine.column_names
        if name not in (*_STRUCTURE, *KEYS[on]) and mine.column(name).null_count < len(mine)
    ]
    if not values:
        return rows
    keys = KEYS[on]
    places = pc.index_in(_joint_key(rows, keys), value_set=_joint_key(mine, keys), skip_nulls=True)
    mine = as_called(mine.select(values), rows.column_names)
    for name in mine.column_names:
        column = mine.column(name).combine_chunks().take(places)
        if name not in rows.column_names:
            rows = rows.append_column(name, column)
            continue
        stored = rows.column(name).combine_chunks()
        if stored.type != column.type:
            stored, column = stored.cast(pa.string()), column.cast(pa.string())
        rows = rows.set_column(rows.column_names.index(name), name, pc.coalesce(column, stored))
    return rows


def _joint_key(table: pa.Table, keys: Sequence[str]) -> pa.Array:
    """One array whose values are equal where all the keys are; null where one of them is."""
    import pyarrow.compute as pc

    columns = [table.column(key).combine_chunks().cast(KEY_TYPES.get(key, pa.string())) for key in keys]
    if len(columns) == 1:
        return columns[0]
    return pc.binary_join_element_wise(*(column.cast(pa.string()) for column in columns), "\x1f")


def _our_name(name: str, keys: Sequence[str]) -> str:
    plain = name.removeprefix("Metadata_").lower().replace(" ", "_")
    ours = SYNONYMS.get(plain, plain)
    return ours if ours in (*keys, "inchikey") else name


def _typed(column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    try:
        typed = column.cast(KEY_TYPES.get(key, pa.string()))
        return as_wells(typed) if key == "well" else typed
    except pa.ArrowInvalid as error:
        raise StoreError(f"column '{key}': {error}") from None


def _distinct(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """One row a key: rows without a key are dropped, equal rows merged. Raises StoreError where they disagree."""
    listed = ", ".join(f'"{key}"' for key in keys)
    present = " AND ".join(f'"{key}" IS NOT NULL' for key in keys)
    with session() as connection:
        connection.register("t", table)
        unique = connection.sql(f"SELECT DISTINCT * FROM t WHERE {present}").to_arrow_table()
        connection.register("u", unique)
        twice = connection.sql(f"SELECT {listed} FROM u GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL").fetchall()
    if twice:
        named = "; ".join(", ".join(str(part) for part in row) for row in twice[:5])
        raise StoreError(f"{len(twice)} keys have rows that disagree ({named}): keep one row for each")
    return unique


def _complete(table: pa.Table) -> pa.Table:
    for field in ANNOTATIONS_SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field.name, pa.nulls(len(table), field.type))
        elif table.schema.field(field.name).type != field.type:
            table = table.set_column(
                table.column_names.index(field.name), field.name, table.column(field.name).cast(field.type)
            )
    return table


def match_report(table: pa.Table, rows: pa.Table, on: str) -> dict[str, Any]:
    """How many keys of the table name something in the store, and which do not; how many the store has."""
    keys = KEYS[on]
    distinct = rows.group_by(list(keys)).aggregate([])  # a store has many images of each
    found = set(zip(*(distinct.column(key).to_pylist() for key in keys), strict=True))
    there = {key for key in found if None not in key}
    asked = list(zip(*(table.column(key).to_pylist() for key in keys), strict=True))
    missing = [", ".join(str(part) for part in key) for key in asked if key not in there]
    columns = [name for name in table.column_names if name not in keys]
    return {
        "on": on,
        "columns": columns,
        "rows": len(table),
        "matched": len(asked) - len(missing),
        "unmatched": missing,
        "in_store": len(there),
        "without_annotation": len(there - set(asked)),
    }
