"""Embeddings and profiles that others made, brought in as images: a row a well (or a field)."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenoembed_store.aggregate import Floats
from phenoembed_store.columns import Matched, match_columns, plain_name, recognise, role_of, under_our_names
from phenoembed_store.engine import session
from phenoembed_store.errors import StoreError
from phenoembed_store.groups import vectors_column
from phenoembed_store.parts import embedding_matrix
from phenoembed_store.reading import Source, read_table
from phenoembed_store.schema import CONTROL_COMPOUND, FILE_SCHEMA, IMAGES_SCHEMA, REJECTED_SCHEMA, SCREEN_SCHEMA
from phenoembed_store.units import constant

JOINS = (("plate", "well", "field"), ("plate", "well"), ("compound", "concentration_um"), ("compound",))
"""What a table of metadata may be joined on: the first of these that both tables have."""

NAMED = ("screen", "plate", "well")
"""What a row cannot be without; other names may be empty."""

DEFAULTS: dict[str, Any] = {"field": 1, "time_h": 0.0, "channel": "", "z": 0, "concentration_um": 0.0}


@dataclass(frozen=True)
class Plan:
    """How a table of profiles is read: what each column means, the features in their order, the tables to join.

    ``listed``: the features are one column of lists.
    """

    encoder: str
    source: str
    screen: str | None
    matched: Matched
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    dropped_because: str
    listed: bool
    further: tuple["Further", ...]

    @property
    def described(self) -> list[str]:
        """Every column but the features."""
        return [*dict.fromkeys((*self.matched.ours.values(), *self.matched.others))]


@dataclass(frozen=True)
class Further:
    """A further table, its columns under our names, and what it is matched on."""

    name: str
    table: pa.Table
    on: tuple[str, ...]
    new: tuple[str, ...]


def plan_profiles(
    source: Source,
    encoder: str,
    *,
    embedding: Sequence[str] | str | None = None,
    metadata: Mapping[str, str] | None = None,
    joined: Sequence[Path] = (),
    screen: str | None = None,
    known: Sequence[str] | None = None,
) -> Plan:
    """Tell a table's columns apart. Raises StoreError where that cannot be done.

    embedding: the feature columns, or one column of lists; by default they are recognised. metadata: ours -> theirs,
    for columns that are not recognised, or ours -> a dose or time with its unit (``5 uM``, ``48 h``) for every row.
    joined: further tables, of wells or compounds, matched on the columns they share. known: the names of the features
    the encoder has already, which are wanted in that order.
    """
    schema = source.schema
    numeric = frozenset(f.name for f in schema if _is_number(f.type))
    given = dict(metadata or {})
    constants = _constants(given, schema.names)
    columns = {ours: theirs for ours, theirs in given.items() if ours not in constants}
    matched = _with_embedding(match_columns(schema.names, numeric, columns, constants), schema, embedding)
    listed = len(matched.features) == 1 and matched.features[0] not in numeric
    names = matched.features if listed else _feature_names(source, matched, known)
    there = [*matched.ours, *constants]
    further = []
    for path in joined:
        further.append(_further(path, there))
        there += further[-1].new
    dropped = () if listed else tuple(sorted(set(matched.features) - set(names)))
    because = "these features hold no number" if known is None else f"'{encoder}' is stored without these features"
    return Plan(encoder, source.name, screen, matched, names, dropped, because, listed, tuple(further))


def describe(plan: Plan, piece: pa.Table, lines: Sequence[int]) -> tuple[pa.Table, list[int]]:
    """A piece's metadata under our names, complete, and how many of its rows each further table knows.

    lines: those of its rows in the file.
    """
    described, hits = _rename(piece, plan.matched), []
    for further in plan.further:
        described, found = _join(described, further)
        hits.append(found)
    return _complete(described, plan.source, plan.screen, lines), hits


def as_images(plan: Plan, piece: pa.Table, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """A piece, described, as rows of the images table, and of the rejected table where a feature is no number."""
    matrix = _features(plan, piece)
    bad = ~(np.isfinite(matrix).all(axis=1) & matrix.any(axis=1))
    accepted = _as_images(rows.filter(pa.array(~bad)), matrix[~bad], plan.encoder)
    return accepted, _as_rejected(rows.filter(pa.array(bad)), matrix[bad], plan.encoder)


def profile_name(path: Path) -> str:
    """The name of a set of embeddings after its file: ``a profile.csv.gz`` -> ``a-profile``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", re.sub(r"(\.(csv|tsv|txt|gz|parquet|h5ad))+$", "", path.name))


def _constants(given: Mapping[str, str], names: Sequence[str]) -> dict[str, float]:
    """What ``given`` says of every row (``concentration_um="5 uM"``); a name that is no column is refused."""
    found: dict[str, float] = {}
    for ours, theirs in given.items():
        if theirs not in names:
            value = constant(ours, theirs)
            if value is None:
                unit = {"concentration_um": "5 uM", "time_h": "48 h"}.get(ours)
                hint = f' (what all rows have is written with its unit: "{ours}={unit}")' if unit else ""
                raise StoreError(f"--map {ours}={theirs}: the table has no column '{theirs}'{hint}")
            found[ours] = float(value)
    return found


def _with_embedding(matched: Matched, schema: pa.Schema, embedding: Sequence[str] | str | None) -> Matched:
    """Take the features the caller names; without a word, one column of lists is the embedding."""
    lists = [f.name for f in schema if pa.types.is_list(f.type) or pa.types.is_fixed_size_list(f.type)]
    if embedding is None:
        wanted = tuple(lists) if len(lists) == 1 else matched.features
    else:
        wanted = (embedding,) if isinstance(embedding, str) else tuple(embedding)
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise StoreError(f"the table has no feature column '{missing[0]}'")
    if doubled := [name for name in wanted if wanted.count(name) > 1]:
        raise StoreError(f"--embedding {doubled[0]}: named twice")
    for name in wanted if embedding is not None else ():
        if name not in lists and not _is_number(schema.field(name).type):
            raise StoreError(f"--embedding {name}: the column holds {schema.field(name).type}, not numbers")
    if not wanted:
        raise StoreError(
            f"the table has no numeric feature columns (with decimal points); it has: {', '.join(schema.names[:20])}"
        )
    claimed = {*matched.ours.values(), *wanted}
    return replace(matched, features=wanted, others=tuple(name for name in schema.names if name not in claimed))


def _feature_names(source: Source, matched: Matched, known: Sequence[str] | None) -> tuple[str, ...]:
    """The features, in order; those without a single number in the whole table are left out."""
    if known is not None:
        missing = [name for name in known if name not in source.schema.names]
        if missing:
            raise StoreError(
                f"the table lacks {len(missing)} of the features that are stored, e.g. '{missing[0]}'; "
                "import it under another --name"
            )
        return tuple(known)
    some = np.zeros(len(matched.features), np.bool_)
    for piece in source.pieces(matched.features):
        some |= np.isfinite(_matrix(piece, matched.features)).any(axis=0)
        if some.all():
            break
    return tuple(name for name, has in zip(matched.features, some, strict=True) if has)


def _features(plan: Plan, piece: pa.Table) -> Floats:
    """(rows, features)"""
    if plan.listed:
        name = plan.features[0]
        matrix = embedding_matrix(piece.column(name).cast(pa.list_(pa.float32())), name)
        if not matrix.shape[1]:
            raise StoreError(f"column '{name}' holds empty lists")
        return matrix
    with np.errstate(over="ignore"):  # what single precision cannot hold is rejected, with the infinite ones
        return _matrix(piece, plan.features).astype(np.float32)


def _matrix(piece: pa.Table, names: Sequence[str]) -> npt.NDArray[np.float64]:
    columns = [piece.column(name).cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy() for name in names]
    return np.stack(columns, axis=1)


def _rename(table: pa.Table, matched: Matched) -> pa.Table:
    """Metadata under our names; what we do not know keeps its own, without the ``Metadata_`` prefix."""
    columns = under_our_names(table, matched.ours)
    columns |= {ours: pa.chunked_array([pa.repeat(value, len(table))]) for ours, value in matched.constants.items()}
    for name in matched.others:
        short = re.sub(r"^(Image_)?Metadata_", "", name) or name
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", short):
            short = plain_name(short)
        if short.lower() not in {taken.lower() for taken in columns} and short not in IMAGES_SCHEMA.names:
            columns[short] = table.column(name)
    return pa.table(columns)


def _further(path: Path, there: Sequence[str]) -> Further:
    """A further table, and which of its columns it is matched on; ``there``: those the profiles have."""
    table = read_table(path)
    found = recognise(table.column_names)
    on = next((keys for keys in JOINS if all(k in found and k in there for k in keys)), None)
    if on is None:
        raise StoreError(
            f"'{path.name}' shares neither plate and well nor compound with the profiles; "
            f"it has: {', '.join(found) or 'nothing that is recognised'}"
        )
    new = tuple(name for name in found if name not in on and name not in there)
    renamed = pa.table(under_our_names(table, found))
    _refuse_contradictions(path.name, renamed, on, new)
    return Further(path.name, renamed, on, new)


def _refuse_contradictions(name: str, table: pa.Table, keys: Sequence[str], new: Sequence[str]) -> None:
    """Raise StoreError where rows of one key say different things."""
    listed = ", ".join(keys)
    with session() as connection:
        connection.register("further", table)
        for ours in new:
            found = connection.sql(
                f"SELECT {listed}, min({ours}), max({ours}) FROM further GROUP BY {listed} "
                f"HAVING count(DISTINCT {ours}) > 1 ORDER BY ALL LIMIT 1"
            ).fetchall()
            if found:
                twice = found[0]
                key, values = ", ".join(map(str, twice[:-2])), " and ".join(f"'{value}'" for value in twice[-2:])
                raise StoreError(f"'{name}' says two things of {key}: its {ours} is {values}; keep one row")


def _join(described: pa.Table, further: Further) -> tuple[pa.Table, int]:
    """Bring in the columns of a further table; how many rows it knows."""
    kept = ", ".join(f'any_value("{name}") AS "{name}"' for name in further.new)
    keys = ", ".join(f'"{key}"' for key in further.on)
    match = " AND ".join(_equal(key) for key in further.on)
    with session() as connection:
        connection.register("profiles", described.append_column("_n", pa.array(np.arange(len(described)))))
        connection.register("further", further.table)
        joined = connection.sql(
            f"SELECT p.*, f.* EXCLUDE ({keys}, _there), coalesce(_there, false) AS _there FROM profiles p LEFT JOIN "
            f"(SELECT {keys}, {kept + ',' if kept else ''} true AS _there FROM further GROUP BY {keys}) f ON {match} "
            "ORDER BY _n"
        ).to_arrow_table()
    hits = int(np.sum(joined.column("_there").to_numpy(zero_copy_only=False)))
    return joined.drop_columns(["_n", "_there"]), hits


def _equal(key: str) -> str:
    if key != "concentration_um":
        return f'p."{key}" = f."{key}"'
    ours, theirs = (f"try_cast({side}.concentration_um AS DOUBLE)" for side in "pf")
    return f"abs({ours} - {theirs}) <= 1e-6 * abs({theirs})"


def _complete(rows: pa.Table, source: str, screen: str | None, lines: Sequence[int]) -> pa.Table:
    """Rows with SCREEN_SCHEMA's columns; what the table does not say gets its default."""
    for needed in ("plate", "well"):
        if needed not in rows.column_names:
            raise StoreError(f"no column for the {needed} was recognised; say which: --map {needed}=THEIRS")
    n = len(rows)
    columns = {name: _values(rows.column(name), name) for name in SCREEN_SCHEMA.names if name in rows.column_names}
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
        0.0 if role == "control" or dose is None or dose != dose else dose
        for dose, role in zip(columns.get("concentration_um", [None] * n), roles, strict=True)
    ]
    columns["well"] = [_text(well) or "" for well in columns["well"]]
    columns["screen"] = [screen] * n if screen else columns.get("screen", [Path(source).stem.split(".")[0]] * n)
    columns.setdefault("path", [f"{source}:{line}" for line in lines])
    columns.setdefault("replicate", columns["plate"])
    for name, value in DEFAULTS.items():
        columns[name] = [value if one is None else one for one in columns.get(name, [value] * n)]
    front = [_typed(columns[f.name], f, lines) for f in SCREEN_SCHEMA]
    others = [name for name in rows.column_names if name not in SCREEN_SCHEMA.names]
    return pa.table([*front, *(rows.column(name) for name in others)], names=[*SCREEN_SCHEMA.names, *others])


def _typed(values: Sequence[Any], field: pa.Field, lines: Sequence[int]) -> pa.Array:
    if field.type == pa.string():
        named = [_name(value, field.name, line) for value, line in zip(values, lines, strict=True)]
        return pa.array(named, field.type)
    return pa.array([_number(value, field, line) for value, line in zip(values, lines, strict=True)], field.type)


def _name(value: Any, name: str, line: int) -> str | None:
    """A name, on one line; a screen, plate and well have one."""
    text = _text(value)
    if not text and name in NAMED:
        raise StoreError(
            f"{name} is empty in line {line}, and every row needs one: fill it in, leave the row out, or say which "
            f"column it is (--map {name}=THEIRS)"
        )
    if text and len(text.splitlines()) > 1:
        raise StoreError(f'{name} is {text!r} in line {line}, on several lines: is a quote (") not closed there?')
    return text


def _number(value: Any, field: pa.Field, line: int) -> float | int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    whole = field.type != pa.float64()
    if not np.isfinite(number) or (field.name == "concentration_um" and number < 0) or (whole and number % 1):
        wanted = (
            "a whole number" if whole else "a number of 0 or more" if field.name == "concentration_um" else "a number"
        )
        raise StoreError(
            f"{field.name} is '{value}' in line {line}, where {wanted} is wanted; "
            f"--map {field.name}=THEIRS names another column"
        )
    return int(number) if whole else number


def _values(column: pa.ChunkedArray, name: str) -> list[Any]:
    try:
        return list(column.to_pylist())
    except OverflowError:  # an infinite date: what a table of "inf" alone is taken for
        raise StoreError(
            f"{name} holds {column.type} that are out of range; --map {name}=THEIRS names another column"
        ) from None


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return f"{value:g}" if isinstance(value, float) else str(value)


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
    said = [f"{count} of its features are no finite number of 32 bits" for count in bad]
    reasons = pa.array([one if count else "all its features are zero" for one, count in zip(said, bad, strict=True)])
    rows = rows.append_column("reason", reasons).append_column("encoder", pa.array([encoder] * len(rows), pa.string()))
    return rows.select(REJECTED_SCHEMA.names)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
