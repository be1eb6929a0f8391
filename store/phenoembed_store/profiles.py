"""Embeddings and profiles that others made, brought in as images: a row a well (or a field)."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phenoembed_store.aggregate import Floats
from phenoembed_store.columns import Matched, match_columns, plain_name, recognise, role_of
from phenoembed_store.engine import session
from phenoembed_store.errors import StoreError
from phenoembed_store.groups import vectors_column
from phenoembed_store.parts import embedding_matrix
from phenoembed_store.reading import read_table
from phenoembed_store.schema import CONTROL_COMPOUND, FILE_SCHEMA, IMAGES_SCHEMA, REJECTED_SCHEMA, SCREEN_SCHEMA

log = logging.getLogger("phenoembed")

JOINS = (("plate", "well", "field"), ("plate", "well"), ("compound", "concentration_um"), ("compound",))
"""What a table of metadata may be joined on: the first of these that both tables have."""

DEFAULTS: dict[str, Any] = {"field": 1, "time_h": 0.0, "channel": "", "z": 0, "concentration_um": 0.0}


@dataclass(frozen=True)
class Profiles:
    """Profiles ready to be written: images, those that cannot be used, and what was recognised as what."""

    accepted: pa.Table
    rejected: pa.Table
    features: tuple[str, ...]
    report: dict[str, Any] = field(default_factory=dict)


def read_profiles(
    source: Path | pa.Table,
    encoder: str,
    *,
    embedding: Sequence[str] | str | None = None,
    metadata: Mapping[str, str] | None = None,
    joined: Sequence[Path] = (),
    screen: str | None = None,
    features: Sequence[str] | None = None,
) -> Profiles:
    """Read profiles from a table or a file (CSV, CSV.gz, TSV, Parquet, AnnData).

    embedding: the feature columns, or one column of lists; by default they are recognised. metadata: ours -> theirs,
    for columns that are not recognised. joined: further tables, of wells or compounds, matched on the columns they
    share. features: the names the encoder has already, which are wanted in that order. Raises StoreError.
    """
    table = source if isinstance(source, pa.Table) else read_table(source)
    name = "table" if isinstance(source, pa.Table) else source.name
    numeric = frozenset(f.name for f in table.schema if _is_number(f.type))
    given = dict(metadata or {})
    _check_given(given, table.column_names)
    matched = _with_embedding(match_columns(table.column_names, numeric, given), table, embedding)
    matrix, used = _features(table, matched, features)
    described = _rename(table, matched)
    reports = []
    for path in joined:
        described, report = _join(described, path)
        reports.append(report)
    rows = _complete(described, name, screen)
    bad = ~np.isfinite(matrix).all(axis=1)
    report = {
        "rows": len(rows),
        "features": len(used),
        "matched": dict(matched.ours),
        "joined": reports,
        "dropped_features": sorted(set(matched.features) - set(used)) if len(matched.features) > 1 else [],
        "kept_metadata": [one for one in rows.column_names if one not in SCREEN_SCHEMA.names],
    }
    accepted = _as_images(rows.filter(pa.array(~bad)), matrix[~bad], encoder)
    return Profiles(accepted, _as_rejected(rows.filter(pa.array(bad)), matrix[bad], encoder), used, report)


def profile_name(path: Path) -> str:
    """The name of a set of embeddings after its file: ``a profile.csv.gz`` -> ``a-profile``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", re.sub(r"(\.(csv|tsv|txt|gz|parquet|h5ad))+$", "", path.name))


def _check_given(given: Mapping[str, str], names: Sequence[str]) -> None:
    for ours, theirs in given.items():
        if theirs not in names:
            raise StoreError(f"--map {ours}={theirs}: the table has no column '{theirs}'")


def _with_embedding(matched: Matched, table: pa.Table, embedding: Sequence[str] | str | None) -> Matched:
    """Take the features the caller names; without a word, one column of lists is the embedding."""
    lists = [f.name for f in table.schema if pa.types.is_list(f.type) or pa.types.is_fixed_size_list(f.type)]
    if embedding is None:
        wanted = tuple(lists) if len(lists) == 1 else matched.features
    else:
        wanted = (embedding,) if isinstance(embedding, str) else tuple(embedding)
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise StoreError(f"the table has no feature column '{missing[0]}'")
    if not wanted:
        raise StoreError("the table has no numeric feature columns; it has: " + ", ".join(table.column_names[:20]))
    claimed = {*matched.ours.values(), *wanted}
    return Matched(matched.ours, wanted, tuple(name for name in table.column_names if name not in claimed))


def _features(table: pa.Table, matched: Matched, known: Sequence[str] | None) -> tuple[Floats, tuple[str, ...]]:
    """The features as (rows, dim) and their names; those without a single number are left out."""
    first = table.schema.field(matched.features[0]).type
    if len(matched.features) == 1 and not _is_number(first):
        matrix = embedding_matrix(table.column(matched.features[0]).cast(pa.list_(pa.float32())), matched.features[0])
        return matrix, tuple(f"{matched.features[0]}_{i}" for i in range(matrix.shape[1]))
    names = list(matched.features)
    if known is not None:
        missing = [name for name in known if name not in table.column_names]
        if missing:
            raise StoreError(
                f"the table lacks {len(missing)} of the features that are stored, e.g. '{missing[0]}'; "
                "import it under another --name"
            )
        names = list(known)
    matrix = np.stack([table.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy() for name in names], axis=1)
    if known is None:
        some = np.isfinite(matrix).any(axis=0)
        matrix, names = matrix[:, some], [names[i] for i in np.flatnonzero(some)]
    return matrix.astype(np.float32), tuple(names)


def _rename(table: pa.Table, matched: Matched) -> pa.Table:
    """Metadata under our names; what we do not know keeps its own, without the ``Metadata_`` prefix."""
    columns = {ours: table.column(theirs) for ours, theirs in matched.ours.items()}
    for name in matched.others:
        short = re.sub(r"^(Image_)?Metadata_", "", name) or name
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", short):
            short = plain_name(short)
        if short.lower() not in {taken.lower() for taken in columns} and short not in IMAGES_SCHEMA.names:
            columns[short] = table.column(name)
    return pa.table(columns)


def _join(described: pa.Table, path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Bring in the columns of a further table, matched on the keys both have."""
    other = read_table(path)
    found = recognise(other.column_names)
    other = pa.table({ours: other.column(theirs) for ours, theirs in found.items()})
    on = next((keys for keys in JOINS if all(k in found and k in described.column_names for k in keys)), None)
    if on is None:
        raise StoreError(
            f"'{path.name}' shares neither plate and well nor compound with the profiles; "
            f"it has: {', '.join(found) or 'nothing that is recognised'}"
        )
    new = [name for name in found if name not in on and name not in described.column_names]
    kept = ", ".join(f'any_value("{name}") AS "{name}"' for name in new)
    keys = ", ".join(f'"{key}"' for key in on)
    match = " AND ".join(_equal(key) for key in on)
    with session() as connection:
        connection.register("profiles", described.append_column("_n", pa.array(np.arange(len(described)))))
        connection.register("further", other)
        joined = connection.sql(
            f"SELECT p.*, f.* EXCLUDE ({keys}, _there), coalesce(_there, false) AS _there FROM profiles p LEFT JOIN "
            f"(SELECT {keys}, {kept + ',' if kept else ''} true AS _there FROM further GROUP BY {keys}) f ON {match} "
            "ORDER BY _n"
        ).to_arrow_table()
    hits = int(np.sum(joined.column("_there").to_numpy(zero_copy_only=False)))
    report = {"table": path.name, "on": list(on), "columns": new, "matched": hits, "unmatched": len(joined) - hits}
    return joined.drop_columns(["_n", "_there"]), report


def _equal(key: str) -> str:
    return (
        f'abs(p."{key}" - f."{key}") <= 1e-6 * abs(f."{key}")'
        if key == "concentration_um"
        else f'p."{key}" = f."{key}"'
    )


def _complete(rows: pa.Table, source: str, screen: str | None) -> pa.Table:
    """Rows with SCREEN_SCHEMA's columns; what the table does not say gets its default."""
    for needed in ("plate", "well"):
        if needed not in rows.column_names:
            raise StoreError(f"no column for the {needed} was recognised; say which: --map {needed}=THEIRS")
    n = len(rows)
    columns = {name: rows.column(name).to_pylist() for name in SCREEN_SCHEMA.names if name in rows.column_names}
    columns.setdefault("compound", [None] * n)
    roles = [
        role_of(_text(c), _text(r)) for c, r in zip(columns["compound"], columns.get("role", [None] * n), strict=True)
    ]
    columns["role"] = roles
    columns["compound"] = [
        CONTROL_COMPOUND if role == "control" else _text(c) or ""
        for c, role in zip(columns["compound"], roles, strict=True)
    ]
    columns["concentration_um"] = [
        0.0 if role == "control" or dose is None else dose
        for dose, role in zip(columns.get("concentration_um", [None] * n), roles, strict=True)
    ]
    columns["well"] = [_canonical_well(_text(well) or "") for well in columns["well"]]
    columns["screen"] = [screen] * n if screen else columns.get("screen", [Path(source).stem.split(".")[0]] * n)
    columns.setdefault("path", [f"{source}:{i + 2}" for i in range(n)])  # as an editor numbers a file's lines
    columns.setdefault("replicate", columns["plate"])
    for name, value in DEFAULTS.items():
        columns[name] = [value if one is None else one for one in columns.get(name, [value] * n)]
    try:
        front = [_typed(columns[f.name], f.type) for f in SCREEN_SCHEMA]
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise StoreError(f"a column of the table does not fit ({error}); point to the right one with --map") from None
    others = [name for name in rows.column_names if name not in SCREEN_SCHEMA.names]
    return pa.table([*front, *(rows.column(name) for name in others)], names=[*SCREEN_SCHEMA.names, *others])


def _typed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        return pa.array([_text(value) for value in values], kind)
    convert = float if kind == pa.float64() else int
    return pa.array([convert(float(value)) for value in values], kind)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)


def _canonical_well(well: str) -> str:
    match = re.fullmatch(r"([A-Za-z]{1,2})0*(\d{1,2})", well.strip())
    return f"{match[1].upper()}{int(match[2]):02d}" if match else well


def _as_images(rows: pa.Table, matrix: Floats, encoder: str) -> pa.Table:
    n = len(rows)
    made: dict[str, pa.Array] = {name: pa.nulls(n, FILE_SCHEMA.field(name).type) for name in FILE_SCHEMA.names}
    made["content_hash"] = pa.array(
        [hashlib.blake2b(v.tobytes(), digest_size=16).hexdigest() for v in matrix], pa.string()
    )
    made["encoder"] = pa.array([encoder] * n, pa.string())
    made["embedding"] = vectors_column(matrix)
    for name, column in made.items():
        rows = rows.append_column(name, column)
    return rows


def _as_rejected(rows: pa.Table, matrix: Floats, encoder: str) -> pa.Table:
    bad = (~np.isfinite(matrix)).sum(axis=1) if len(matrix) else np.zeros(0, np.int64)
    reasons = pa.array([f"{count} of its features are no finite number" for count in bad], pa.string())
    rows = rows.append_column("reason", reasons).append_column("encoder", pa.array([encoder] * len(rows), pa.string()))
    return rows.select(REJECTED_SCHEMA.names)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
